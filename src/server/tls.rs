//! TLS: the certificate and its key, read once while the daemon may still read them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// What is offered to callers that ask, the better one first.
const PROTOCOLS: [&[u8]; 2] = [HTTP2, b"http/1.1"];
/// HTTP/2 by its name in ALPN.
pub(super) const HTTP2: &[u8] = b"h2";

/// Config section `[tls]`. Without files the daemon speaks plain HTTP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// PEM file of the certificate, and of those that signed it.
    pub certificate: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read, or is no PEM of what it should hold.
    #[error("{key}: cannot read {what} from {path}: {source}")]
    File {
        /// The configuration's key.
        key: &'static str,
        /// What the file should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// The two do not belong together, or are of a kind that is not supported.
    #[error("tls.certificate {certificate} and tls.key {key} cannot be used: {source}")]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

impl TlsConfig {
    /// Whether TLS is asked for.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.certificate.as_os_str().is_empty()
    }

    /// Checks what can be checked without reading files.
    ///
    /// # Errors
    /// The key that is missing.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        let missing = |key, other| Err((key, format!("is missing: {other} needs it")));
        match (self.is_on(), self.key.as_os_str().is_empty()) {
            (true, true) => missing("tls.key", "tls.certificate"),
            (false, false) => missing("tls.certificate", "tls.key"),
            _ => Ok(()),
        }
    }

    /// Reads both files; to be done before privileges are dropped. `None` without TLS.
    ///
    /// # Errors
    /// The file that cannot be used.
    pub fn read(&self) -> Result<Option<TlsAcceptor>, TlsError> {
        if !self.is_on() {
            return Ok(None);
        }
        let chain = read_chain(&self.certificate).and_then(|chain| match chain.is_empty() {
            true => Err(pem::Error::NoItemsFound),
            false => Ok(chain),
        });
        let chain = chain.map_err(|source| TlsError::File {
            key: "tls.certificate",
            what: "a certificate",
            path: self.certificate.clone(),
            source,
        })?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|source| TlsError::File {
            key: "tls.key",
            what: "a private key",
            path: self.key.clone(),
            source,
        })?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key));
        let mut config = config.map_err(|source| TlsError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        Ok(Some(TlsAcceptor::from(Arc::new(config))))
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_file_iter(path)?.collect()
}
