//! A wire between client and server that can be cut.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// Passes connections on to a server until they are cut.
pub(crate) struct Proxy {
    /// `http://127.0.0.1:port`
    pub(crate) url: String,
    wire: Arc<Mutex<Wire>>,
}

#[derive(Default)]
struct Wire {
    is_cut: bool,
    sockets: Vec<TcpStream>,
}

impl Proxy {
    /// In front of the server at `url`.
    pub(crate) fn before(url: &str) -> Self {
        let server = url.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let wire = Arc::new(Mutex::new(Wire::default()));
        let shared = Arc::clone(&wire);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut wire = shared.lock().unwrap();
                let server = TcpStream::connect(&server).ok().filter(|_| !wire.is_cut);
                // Else whoever came is gone.
                let Some(server) = server else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || carry(from, to));
                }
                wire.sockets.extend([client, server]);
            }
        });
        Self { url, wire }
    }

    /// Ends all connections, and lets nobody through.
    pub(crate) fn cut(&self) {
        let mut wire = self.wire.lock().unwrap();
        wire.is_cut = true;
        for socket in wire.sockets.drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Lets through again who comes from now on.
    pub(crate) fn mend(&self) {
        self.wire.lock().unwrap().is_cut = false;
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer)
        && to.write_all(&buffer[..read]).is_ok()
    {}
    let _ = to.shutdown(Shutdown::Write);
}
