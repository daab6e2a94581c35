//! Answers HTTP/1.1 on loopback, in clear or over TLS: the Lambda Runtime API and the AWS of the bench stand on it.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use xtask::error::{Error, Result};

/// What was asked.
pub(crate) struct Asked {
    pub(crate) path: String,
    /// The header that names the operation of an AWS service with a JSON protocol.
    pub(crate) target: String,
    pub(crate) body: Bytes,
}

/// What is answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

/// A listener on a free port of 127.0.0.1; it ends with every connection when this is dropped.
pub(crate) struct Serving {
    pub(crate) port: u16,
    task: JoinHandle<()>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Serving {
    /// Answers with `answer` until dropped; over TLS if there is an acceptor.
    pub(crate) async fn start<A, F>(tls: Option<TlsAcceptor>, answer: A) -> Result<Self>
    where
        A: Fn(Asked) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let failed = |source| Error::Start {
            program: "a listener on a free port".to_owned(),
            source,
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let answer = Arc::new(answer);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                // Without it answers would wait for the client's delayed acknowledgement.
                let _ = stream.set_nodelay(true);
                connections.spawn(speak(stream, tls.clone(), Arc::clone(&answer)));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { port, task })
    }
}

async fn speak<A, F>(stream: TcpStream, tls: Option<TlsAcceptor>, answer: Arc<A>)
where
    A: Fn(Asked) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    match tls {
        None => serve(stream, answer).await,
        // A client that breaks off a handshake says why itself.
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                serve(stream, answer).await;
            }
        }
    }
}

async fn serve<S, A, F>(stream: S, answer: Arc<A>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Asked) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let answer = Arc::clone(&answer);
        async move { Ok::<_, Infallible>(respond(request, &*answer).await) }
    });
    // Clients are killed when they have been measured: a broken connection is no news.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn respond<A, F>(request: Request<Incoming>, answer: &A) -> Response<Full<Bytes>>
where
    A: Fn(Asked) -> F,
    F: Future<Output = Answer>,
{
    let target = request
        .headers()
        .get("x-amz-target")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let path = request.uri().path().to_owned();
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let asked = Asked { path, target, body };
    let answered = answer(asked).await;
    let mut response = Response::builder().status(answered.status);
    for (name, value) in answered.headers {
        response = response.header(name, value);
    }
    response
        .body(Full::from(answered.body))
        .unwrap_or_else(|_| Response::new(Full::from("a header of the bench is not HTTP")))
}
