//! TLS for servers under test, and rustls as their client.

use std::{
    io::{self, Read, Write},
    path::Path,
    sync::{Arc, LazyLock},
    time::Duration,
};

use mahavishnu_core::{
    config::Config,
    tls::{Certified, Chain, ClientAuth, PrivateKey, Server},
};
use mahavishnu_tests::stream::Socket;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName},
};

use crate::stream::Stream;

/// Makes a server speak TLS, with a certificate for `test`.
pub fn demand(config: &mut Config) {
    config.tls = Some(FILES.server.clone());
}

/// A client's stream within TLS.
#[derive(Debug)]
pub struct Secure(StreamOwned<ClientConnection, Box<Stream>>);

impl Stream {
    /// The same within TLS. The handshake comes with the first byte that is written or read.
    #[must_use]
    pub fn secure(self) -> Self {
        let name = ServerName::try_from("test").expect("a name");
        let session = ClientConnection::new(FILES.client.clone(), name).expect("a client");
        Self::Tls(Box::new(Secure(StreamOwned::new(session, Box::new(self)))))
    }
}

impl Secure {
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.0.sock.set_patience(patience);
    }

    pub(crate) fn set_write_patience(&mut self, patience: Duration) {
        self.0.sock.set_write_patience(patience);
    }

    /// Says that nothing more will come (RFC 8446 §6.1), then ends our half.
    pub(crate) fn finish(&mut self) {
        self.0.conn.send_close_notify();
        // The server may have ended everything already.
        let _ = self.0.flush();
        self.0.sock.finish();
    }

    pub(crate) fn into_inner(self) -> Stream {
        *self.0.into_parts().1
    }

    /// Sends bytes past TLS.
    pub(crate) fn write_below(&mut self, bytes: &[u8]) {
        let _ = self.0.sock.write_all(bytes);
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.0.write(bytes)?;
        self.0.flush()?;
        Ok(count)
    }
}

/// Writes the certificate and its key into `dir`, and returns where they are.
pub(crate) fn write(dir: &Path) -> (String, String) {
    let file = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).expect("its directory is ours");
        path.to_str().expect("paths of tests are UTF-8").to_owned()
    };
    (file("certificate.pem", &FILES.certificate), file("key.pem", &FILES.key))
}

struct Files {
    certificate: String,
    key: String,
    server: Server,
    client: Arc<ClientConfig>,
}

/// One certificate for all servers of the process.
static FILES: LazyLock<Files> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["test".to_owned()]).expect("a certificate");
    let chain = Chain::from_pem(made.cert.pem().as_bytes()).expect("a chain");
    let key = PrivateKey::from_pem(made.signing_key.serialize_pem().as_bytes()).expect("a key");
    let certified = Certified::new(chain, &key).expect("a key that fits");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(made.cert.der().to_vec())).expect("a certificate");
    let client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Files {
        certificate: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
        server: Server::new(vec![certified], &ClientAuth::Off).expect("a server"),
        client: Arc::new(client),
    }
});
