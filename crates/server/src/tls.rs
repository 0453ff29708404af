//! The certificate and key that the port is served with.

use std::{path::Path, sync::Arc};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::config::{StartError, Tls};

pub fn load(files: &Tls) -> Result<Arc<rustls::ServerConfig>, StartError> {
    let wrong = |path: &Path, message: String| StartError::Tls { path: path.to_owned(), message };
    let read = |error: &dyn std::fmt::Display| wrong(&files.certificate, error.to_string());
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(&files.certificate).and_then(Iterator::collect).map_err(|error| read(&error))?;
    if chain.is_empty() {
        return Err(wrong(&files.certificate, "there is no certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| wrong(&files.key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StartError::Internal(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| wrong(&files.certificate, error.to_string()))?;
    Ok(Arc::new(config))
}
