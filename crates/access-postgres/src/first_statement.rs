//! A statement that leaves together with the last message of a login.
//!
//! A session of a role with `pg_signal_backend` can end ours as soon as it sees it. Whoever first waits to hear that the login
//! was accepted, and then sends a statement, gives it the time of a round trip. The server reads what follows the login
//! as soon as it is done with it, so the statement can be there already:
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING>.
//!
//! The driver knows nothing of it. It speaks through [`Pipelined`], which adds the statement behind the driver's last
//! message of the login, and takes its answer out of what the server sends. So the statement leaves before the server has
//! proved by SCRAM that it knows the password: it must hold no secret, and its answer counts only once the driver has
//! finished the login. That the server is the one whose certificate we trust is known before.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use postgres_protocol::message::backend::{DataRowBody, Header, Message};
use postgres_protocol::message::frontend;
use postgres_protocol::{IsNull, Oid};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_postgres::Socket;
use tokio_postgres::fallible_iterator::FallibleIterator;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::types::{self, FromSql, Type};

use crate::statement::Statement;

/// TLS that sends a statement behind each login that it carries.
pub(crate) struct FirstStatement<T> {
    tls: T,
    messages: Bytes,
    answers: mpsc::UnboundedSender<Answer>,
}

/// Where the answer arrives; it ends without one if the connection does, or if the statement could not be sent this way.
pub(crate) type Answers = mpsc::UnboundedReceiver<Answer>;

/// What the server answered.
pub(crate) enum Answer {
    /// The last row.
    Row(DataRowBody),
    /// An error, or no row.
    NoRow,
}

impl<T> FirstStatement<T> {
    pub(crate) fn new(tls: T, statement: &Statement<'_>) -> (Self, Answers) {
        let (answers, received) = mpsc::unbounded_channel();
        // What cannot be encoded is not sent, and then there is no answer.
        let messages = encode(statement).unwrap_or_default();
        let first = Self {
            tls,
            messages,
            answers,
        };
        (first, received)
    }
}

/// A value of a row, in the binary format.
pub(crate) fn value<'a, T: FromSql<'a>>(
    row: &'a DataRowBody,
    index: usize,
    of: &Type,
) -> Result<T, Box<dyn std::error::Error + Sync + Send>> {
    let range = row.ranges().nth(index)?.flatten();
    T::from_sql_nullable(of, range.and_then(|range| row.buffer().get(range)))
}

/// The extended query protocol, from Parse to Sync, with values and results in the binary format.
fn encode(statement: &Statement<'_>) -> Result<Bytes, Box<dyn std::error::Error + Sync + Send>> {
    let mut messages = BytesMut::new();
    let parameters = statement.parameters();
    let types: Vec<Oid> = parameters.iter().map(|(_, of)| of.oid()).collect();
    frontend::parse("", statement.sql(), types, &mut messages)?;
    frontend::bind(
        "",
        "",
        Some(BINARY),
        parameters,
        |(value, of), out| {
            Ok(match value.to_sql_checked(&of, out)? {
                types::IsNull::Yes => IsNull::Yes,
                types::IsNull::No => IsNull::No,
            })
        },
        Some(BINARY),
        &mut messages,
    )
    .map_err(|error| match error {
        frontend::BindError::Conversion(error) => error,
        frontend::BindError::Serialization(error) => error.into(),
    })?;
    frontend::execute("", 0, &mut messages)?;
    frontend::sync(&mut messages);
    Ok(messages.freeze())
}

/// The format code of binary values.
const BINARY: i16 = 1;

impl<T: MakeTlsConnect<Socket>> MakeTlsConnect<Socket> for FirstStatement<T>
where
    T::TlsConnect: Send + 'static,
    T::Stream: 'static,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    type Stream = Pipelined<T::Stream>;
    type TlsConnect = FirstStatement<T::TlsConnect>;
    type Error = T::Error;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Self::TlsConnect, Self::Error> {
        Ok(FirstStatement {
            tls: self.tls.make_tls_connect(domain)?,
            messages: self.messages.clone(),
            answers: self.answers.clone(),
        })
    }
}

impl<S, C: TlsConnect<S>> TlsConnect<S> for FirstStatement<C>
where
    S: Send + 'static,
    C: Send + 'static,
    C::Future: Send,
{
    type Stream = Pipelined<C::Stream>;
    type Error = C::Error;
    type Future = BoxFuture<'static, Result<Self::Stream, Self::Error>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let inner = self.tls.connect(stream).await?;
            Ok(Pipelined::new(inner, self.messages, self.answers))
        })
    }
}

/// A stream between the driver and the server that carries one statement more than the driver knows of.
pub(crate) struct Pipelined<S> {
    inner: S,
    statement: Bytes,
    stage: Stage,
    /// Bytes that the server has still to get.
    unsent: BytesMut,
    /// The beginning of a message of the server.
    received: BytesMut,
    /// Whole messages of the server that are the driver's.
    passed: BytesMut,
}

enum Stage {
    /// The driver logs in.
    LoggingIn(mpsc::UnboundedSender<Answer>),
    /// The server asked for what ends the login: the statement goes behind the driver's next message.
    LoginEnds(mpsc::UnboundedSender<Answer>),
    /// The statement is sent; the login's answers are still the driver's.
    Sent(mpsc::UnboundedSender<Answer>),
    /// What the server says now is the answer, until it is ready for the next statement.
    Answering(mpsc::UnboundedSender<Answer>, Answer),
    /// Nothing is added and nothing is taken away any more.
    Over,
}

impl<S> Pipelined<S> {
    fn new(inner: S, statement: Bytes, answers: mpsc::UnboundedSender<Answer>) -> Self {
        Self {
            inner,
            statement,
            stage: Stage::LoggingIn(answers),
            unsent: BytesMut::new(),
            received: BytesMut::new(),
            passed: BytesMut::new(),
        }
    }

    /// Divides what the server sent into what is the driver's and what is the answer.
    fn divide(&mut self) -> io::Result<()> {
        while !matches!(self.stage, Stage::Over) {
            let Some(length) = message_length(&self.received)? else {
                return Ok(());
            };
            if self.received.len() < length {
                return Ok(());
            }
            let bytes = self.received.split_to(length);
            let message = Message::parse(&mut bytes.clone())?;
            let stage = std::mem::replace(&mut self.stage, Stage::Over);
            self.stage = match (stage, message) {
                (
                    Stage::LoggingIn(answers),
                    Some(
                        Message::AuthenticationSaslContinue(_)
                        | Message::AuthenticationCleartextPassword,
                    ),
                ) if !self.statement.is_empty() => Stage::LoginEnds(answers),
                (Stage::LoggingIn(_) | Stage::LoginEnds(_), Some(Message::ReadyForQuery(_))) => {
                    Stage::Over
                }
                (Stage::Sent(answers), Some(Message::ReadyForQuery(_))) => {
                    Stage::Answering(answers, Answer::NoRow)
                }
                (Stage::Answering(answers, _), Some(Message::DataRow(row))) => {
                    self.stage = Stage::Answering(answers, Answer::Row(row));
                    continue;
                }
                // What was answered before it is undone.
                (Stage::Answering(answers, _), Some(Message::ErrorResponse(_))) => {
                    self.stage = Stage::Answering(answers, Answer::NoRow);
                    continue;
                }
                (Stage::Answering(answers, answer), Some(Message::ReadyForQuery(_))) => {
                    // Nobody may be waiting any more.
                    let _ = answers.send(answer);
                    continue;
                }
                (stage @ Stage::Answering(..), _) => {
                    self.stage = stage;
                    continue;
                }
                (stage, _) => stage,
            };
            self.passed.unsplit(bytes);
        }
        self.passed.unsplit(self.received.split());
        Ok(())
    }
}

/// How many bytes the message has that `bytes` begins with; `None` if too little of it is there to tell.
fn message_length(bytes: &[u8]) -> io::Result<Option<usize>> {
    // Its length counts itself, but not the tag.
    Ok(Header::parse(bytes)?.and_then(|header| usize::try_from(header.len()).ok()?.checked_add(1)))
}

impl<S: AsyncWrite + Unpin> Pipelined<S> {
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let n = ready!(Pin::new(&mut self.inner).poll_write(context, &self.unsent))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let _ = self.unsent.split_to(n);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Pipelined<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.passed.is_empty() {
                let n = this.passed.len().min(out.remaining());
                out.put_slice(&this.passed.split_to(n));
                return Poll::Ready(Ok(()));
            }
            if matches!(this.stage, Stage::Over) {
                return Pin::new(&mut this.inner).poll_read(context, out);
            }
            let mut chunk = [0; 4096];
            let mut read = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                this.stage = Stage::Over;
            }
            this.received.extend_from_slice(read.filled());
            this.divide()?;
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Pipelined<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        match std::mem::replace(&mut this.stage, Stage::Over) {
            // The driver writes a message as a whole; should it ever not, the statement is asked for in the ordinary way.
            Stage::LoginEnds(answers) if message_length(bytes)? == Some(bytes.len()) => {
                this.stage = Stage::Sent(answers);
                this.unsent.extend_from_slice(bytes);
                this.unsent.extend_from_slice(&this.statement);
                // What does not go at once goes when the driver flushes.
                if let Poll::Ready(sent) = this.poll_send(context) {
                    sent?;
                }
                Poll::Ready(Ok(bytes.len()))
            }
            Stage::LoginEnds(answers) => {
                this.stage = Stage::LoggingIn(answers);
                Pin::new(&mut this.inner).poll_write(context, bytes)
            }
            stage => {
                this.stage = stage;
                Pin::new(&mut this.inner).poll_write(context, bytes)
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.inner).poll_shutdown(context)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Pipelined<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.inner.channel_binding()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    fn pipelined(statement: &'static [u8]) -> (Pipelined<DuplexStream>, DuplexStream, Answers) {
        let (ours, server) = duplex(1024);
        let (answers, received) = mpsc::unbounded_channel();
        let driver = Pipelined::new(ours, Bytes::from_static(statement), answers);
        (driver, server, received)
    }

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[tag], &length.to_be_bytes()[..], body].concat()
    }

    fn continued() -> Vec<u8> {
        message(b'R', b"\0\0\0\x0bserver-first")
    }

    fn accepted() -> Vec<u8> {
        [message(b'R', &[0; 4]), message(b'Z', b"I")].concat()
    }

    fn row(text: &[u8]) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        message(b'D', &[&[0, 1], &length[..], text].concat())
    }

    async fn read(stream: &mut (impl AsyncRead + Unpin), n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        stream.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    async fn log_in(driver: &mut Pipelined<DuplexStream>, server: &mut DuplexStream) {
        let proof = message(b'p', b"proof");
        server.write_all(&continued()).await.unwrap();
        assert_eq!(read(driver, continued().len()).await, continued());
        driver.write_all(&proof).await.unwrap();
        driver.flush().await.unwrap();
        assert_eq!(read(server, proof.len()).await, proof);
    }

    #[tokio::test]
    async fn the_statement_follows_the_login_and_its_answer_is_not_the_drivers() {
        let (mut driver, mut server, mut answers) = pipelined(b"statement");
        log_in(&mut driver, &mut server).await;
        assert_eq!(read(&mut server, 9).await, b"statement");

        let next = message(b'1', b"");
        let answer = [
            accepted(),
            message(b'1', b""),
            row(b"yes"),
            message(b'Z', b"I"),
            next.clone(),
        ]
        .concat();
        let reading = async {
            assert_eq!(read(&mut driver, accepted().len()).await, accepted());
            assert_eq!(read(&mut driver, next.len()).await, next);
        };
        let writing = async {
            // A byte at a time: messages do not arrive as wholes.
            for byte in answer {
                server.write_all(&[byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(reading, writing);
        let Some(Answer::Row(row)) = answers.recv().await else {
            panic!("no row");
        };
        assert_eq!(value::<String>(&row, 0, &Type::TEXT).unwrap(), "yes");
        assert!(value::<String>(&row, 1, &Type::TEXT).is_err());

        driver.write_all(b"more").await.unwrap();
        assert_eq!(read(&mut server, 4).await, b"more");
    }

    #[tokio::test]
    async fn a_refused_login_is_the_drivers_and_there_is_no_answer() {
        let (mut driver, mut server, mut answers) = pipelined(b"statement");
        log_in(&mut driver, &mut server).await;
        let refused = message(b'E', b"SFATAL\0C28P01\0Mno\0\0");
        server.write_all(&refused).await.unwrap();
        drop(server);
        let mut rest = Vec::new();
        driver.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, refused);
        assert!(answers.recv().await.is_none());
    }

    #[tokio::test]
    async fn an_error_of_the_statement_is_an_answer_without_a_row() {
        let (mut driver, mut server, mut answers) = pipelined(b"statement");
        log_in(&mut driver, &mut server).await;
        let refused = message(b'E', b"SERROR\0C42883\0Mno\0\0");
        // A row may have left before the statement failed.
        server
            .write_all(&[accepted(), row(b"yes"), refused, message(b'Z', b"I")].concat())
            .await
            .unwrap();
        drop(server);
        let mut rest = Vec::new();
        driver.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, accepted());
        assert!(matches!(answers.recv().await, Some(Answer::NoRow)));
    }

    #[tokio::test]
    async fn a_session_that_is_ended_before_it_answers_leaves_no_answer() {
        let (mut driver, mut server, mut answers) = pipelined(b"statement");
        log_in(&mut driver, &mut server).await;
        let ended = message(b'E', b"SFATAL\0C57P01\0Mno\0\0");
        server
            .write_all(&[accepted(), ended].concat())
            .await
            .unwrap();
        drop(server);
        let mut rest = Vec::new();
        driver.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, accepted());
        assert!(answers.recv().await.is_none());
    }

    #[tokio::test]
    async fn without_a_login_that_asks_for_a_password_nothing_is_added() {
        let (mut driver, mut server, mut answers) = pipelined(b"statement");
        server.write_all(&accepted()).await.unwrap();
        assert_eq!(read(&mut driver, accepted().len()).await, accepted());
        driver.write_all(b"query").await.unwrap();
        assert_eq!(read(&mut server, 5).await, b"query");
        assert!(answers.recv().await.is_none());
    }
}
