//! Why a broker cannot be connected to, in words that say what to do.

use std::io::{self, ErrorKind as Io};
use std::time::Duration;

use lapin::ErrorKind;
use lapin::protocol::{AMQPHardError, AMQPSoftError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::link_error::LinkError;
use super::options::AmqpOptions;
use crate::config::MessageQueue;

/// How long a look at a port may take.
const LOOK: Duration = Duration::from_secs(2);

/// What every client of this version says first.
const AMQP: &[u8] = b"AMQP\0\0\x09\x01";

/// What a client of HTTP says: such a server may wait for the rest of what an AMQP client begins with.
const HTTP: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// What to do about an error, and the error itself.
pub(super) async fn explain(error: &LinkError, options: &AmqpOptions) -> String {
    let queue = &options.message_queue;
    let remedy = match error {
        LinkError::Amqp { source, .. } => match source.kind() {
            ErrorKind::ProtocolError(told) => refused(told.get_id(), told.get_message().as_str(), queue),
            ErrorKind::IOError(source) => match unreachable(source, queue) {
                None => misunderstood(&source.to_string(), queue).await,
                told => told,
            },
            ErrorKind::ParsingError(source) => misunderstood(&source.to_string(), queue).await,
            ErrorKind::InvalidConnectionState(_) | ErrorKind::InvalidProtocolVersion(_) => {
                misunderstood("", queue).await
            }
            _ => None,
        },
        LinkError::Silent { .. } => misunderstood("", queue).await,
        _ => None,
    };
    remedy.map_or_else(|| error.to_string(), |remedy| format!("{remedy} ({error})"))
}

/// The broker's own word about who comes in.
fn refused(number: u16, message: &str, queue: &MessageQueue) -> Option<String> {
    let MessageQueue { username, virtual_host, .. } = queue;
    let (denied, not_allowed) = (AMQPSoftError::ACCESSREFUSED.get_id(), AMQPHardError::NOTALLOWED.get_id());
    if number == denied && message.contains("Login was refused") {
        let guest = if username == "guest" {
            "; the user guest comes in from the broker's own machine only"
        } else {
            ""
        };
        return Some(format!(
            "the broker does not let user `{username}` in with this password ({number}); check both under manager.message_queue, or have `tasker initialize \
             --rabbitmq` create the user{guest}"
        ));
    }
    if number == not_allowed && message.contains("not found") {
        return Some(format!(
            "the broker has no virtual host `{virtual_host}` ({number}); `tasker initialize --rabbitmq` creates it, or correct \
             manager.message_queue.virtual_host"
        ));
    }
    (number == denied || number == not_allowed).then(|| {
        format!("user `{username}` has too few permissions in virtual host `{virtual_host}` ({number}); `tasker initialize --rabbitmq` gives them")
    })
}

/// Nobody has answered.
fn unreachable(error: &io::Error, queue: &MessageQueue) -> Option<String> {
    let MessageQueue { host, port, .. } = queue;
    match error.kind() {
        Io::ConnectionRefused => Some(format!(
            "nothing listens at {host}:{port}; start the broker, or correct host and port under manager.message_queue"
        )),
        Io::TimedOut | Io::HostUnreachable | Io::NetworkUnreachable => Some(silent(queue)),
        // The standard library has no kind for it.
        _ if error.to_string().contains("lookup address") => Some(format!(
            "the host name `{host}` is not known; correct manager.message_queue.host, or the name service"
        )),
        _ => None,
    }
}

fn silent(queue: &MessageQueue) -> String {
    let MessageQueue { host, port, .. } = queue;
    format!(
        "{host}:{port} does not answer; check host and port under manager.message_queue, and firewalls on the way"
    )
}

/// Somebody has answered, and not as a broker does.
async fn misunderstood(error: &str, queue: &MessageQueue) -> Option<String> {
    let MessageQueue { host, port, .. } = queue;
    if queue.tls {
        return Some(match error {
            // A file of ours that cannot be used says so itself.
            error if error.contains("manager.message_queue.tls:") => error.to_owned(),
            error if error.contains("corrupt message") || error.contains("InvalidContentType") => format!(
                "{host}:{port} does not speak TLS; take the port for it (5671 usually), or manager.message_queue.tls: false on a network that \
                 you trust"
            ),
            error if error.contains("certificate") => format!(
                "the certificate of {host}:{port} is not trusted; its CA must be among the system's or in manager.message_queue.tls.ca, and manager.message_queue.host be the name \
                 in it"
            ),
            _ => format!(
                "{host}:{port} does not speak AMQP over TLS; check port and tls under manager.message_queue"
            ),
        });
    }
    let answer = match first_bytes(host, *port, AMQP).await {
        Err(error) if error.kind() == Io::TimedOut => first_bytes(host, *port, HTTP).await,
        answer => answer,
    };
    match answer {
        Ok(bytes) if bytes.starts_with(b"HTTP") => Some(format!(
            "{host}:{port} speaks HTTP: it may be the management interface (15672 usually); set manager.message_queue.port to that for AMQP (5672 \
             usually)"
        )),
        // An alert: its record begins so.
        Ok(bytes) if bytes.first() == Some(&0x15) => Some(speaks_tls(host, *port)),
        Ok(bytes) if bytes.starts_with(b"AMQP") => Some(format!(
            "{host}:{port} speaks another version of AMQP than 0.9.1; tasker works with RabbitMQ"
        )),
        // A frame: a broker, and what went wrong has another reason.
        Ok(bytes) if bytes.first() == Some(&1) => None,
        Ok(bytes) if bytes.is_empty() => Some(format!(
            "{host}:{port} ends the connection without a word; if it speaks TLS (5671 usually) set manager.message_queue.tls: true, else correct \
             the port"
        )),
        Ok(_) => Some(format!(
            "{host}:{port} does not speak AMQP; correct manager.message_queue.port (5672 usually)"
        )),
        Err(_) => Some(silent(queue)),
    }
}

fn speaks_tls(host: &str, port: u16) -> String {
    format!(
        "{host}:{port} speaks TLS; set manager.message_queue.tls: true, or take the port without (5672 usually)"
    )
}

/// What a port answers to these words.
async fn first_bytes(host: &str, port: u16, words: &[u8]) -> io::Result<Vec<u8>> {
    let look = async {
        let mut stream = TcpStream::connect((host, port)).await?;
        stream.write_all(words).await?;
        let mut bytes = vec![0; AMQP.len()];
        // Whoever hangs up at once has said as much.
        let count = stream.read(&mut bytes).await.unwrap_or(0);
        bytes.truncate(count);
        Ok(bytes)
    };
    timeout(LOOK, look).await.unwrap_or_else(|_| Err(Io::TimedOut.into()))
}
