//! Counts how often a client waits for PostgreSQL before it has its answer: TLS hides what is said, not who speaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use xtask::error::{Error, Result};

/// A way to PostgreSQL that counts. It ends when this is dropped.
pub(crate) struct Counter {
    pub(crate) port: u16,
    turns: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Counter {
    /// Leads to a port of this machine, one connection at a time.
    pub(crate) async fn start(to: u16) -> Result<Self> {
        let failed = |source| Error::Start {
            program: "a listener on a free port".to_owned(),
            source,
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let turns = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&turns);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // A client that breaks off counts as far as it came.
                let _ = relay(client, to, &counted).await;
            }
        });
        Ok(Self { port, turns, task })
    }

    /// Round trips so far, the one of TCP included; a goodbye that gets no answer is none.
    pub(crate) fn round_trips(&self) -> u32 {
        1 + self.turns.load(Ordering::SeqCst)
    }
}

/// Each turn from the client to the server and back is one round trip, however many packets either side sends.
async fn relay(mut client: TcpStream, to: u16, turns: &AtomicU32) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", to)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut asked, mut said) = (vec![0; 65_536], vec![0; 65_536]);
    let mut is_client_speaking = false;
    loop {
        tokio::select! {
            n = client.read(&mut asked) => {
                let n = n?;
                if n == 0 {
                    return server.shutdown().await;
                }
                is_client_speaking = true;
                server.write_all(&asked[..n]).await?;
            }
            n = server.read(&mut said) => {
                let n = n?;
                if n == 0 {
                    return Ok(());
                }
                if std::mem::take(&mut is_client_speaking) {
                    turns.fetch_add(1, Ordering::SeqCst);
                }
                client.write_all(&said[..n]).await?;
            }
        }
    }
}
