//! Connecting to a host by whichever of its addresses answers, within a time.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// Connects to `host`, a name or an address without brackets: one address after the other, those that come first with the
/// greater part of what is left of `timeout`.
///
/// # Errors
///
/// The name has no address or is not resolved in time, or what the addresses said: if any refused, that.
pub(crate) fn connect(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let deadline = Instant::now() + timeout;
    let addresses = resolve(host, port, timeout)?;
    connect_to_any(&addresses, deadline)
}

fn connect_to_any(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (place, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        // The last one gets all that is left, one before others half of it.
        let share = if place + 1 == addresses.len() { left } else { left / 2 };
        match TcpStream::connect_timeout(address, share.max(TRY_MIN)) {
            Ok(stream) => return Ok(stream),
            // Somebody who refuses is the better news than an address that leads nowhere.
            Err(_) if failure.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// The system's resolver knows no time limit, so it is asked on a thread that is left behind if need be.
fn resolve(host: &str, port: u16, timeout: Duration) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (answer, answered) = mpsc::sync_channel(1);
    let host = host.to_owned();
    thread::Builder::new().name("resolve".into()).spawn(move || {
        let _ = answer.send((host.as_str(), port).to_socket_addrs().map(Vec::from_iter));
    })?;
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the name is not resolved in time");
    answered.recv_timeout(timeout).map_err(late)?
}

/// No try is so short that it could not succeed on this machine.
const TRY_MIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn every_address_is_tried_and_a_refusal_is_what_is_told() {
        let listener = TcpListener::bind("127.0.0.2:0").unwrap();
        let good = listener.local_addr().unwrap();
        let refuses = SocketAddr::new("127.0.0.1".parse().unwrap(), good.port());
        let soon = || Instant::now() + Duration::from_secs(5);
        let stream = connect_to_any(&[refuses, good], soon()).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        drop(listener);
        for order in [[refuses, "255.255.255.255:1".parse().unwrap()], [good, refuses]] {
            let error = connect_to_any(&order, soon()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
        }
    }

    #[test]
    fn a_name_without_addresses_is_told() {
        let error = connect("no-such-host.invalid", 1, Duration::from_secs(20)).unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
    }
}
