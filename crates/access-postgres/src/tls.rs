//! TLS as we accept it: certificate and host name verified, one crypto provider, no fall-back to plain text.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::Error;

/// The certificate authorities that may vouch for a server.
#[derive(Clone, Debug)]
pub struct TrustedRoots(RootCertStore);

impl TrustedRoots {
    /// Reads PEM text, such as the RDS bundle of one region or a company's own CA.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRoots`] if the text is not PEM, [`Error::UnusableRoot`] if a certificate cannot
    /// be a trust anchor, [`Error::NoRoots`] if the text holds no certificate at all.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|source| Error::InvalidRoots { source })?;
            store
                .add(certificate)
                .map_err(|source| Error::UnusableRoot { source })?;
        }
        if store.is_empty() {
            return Err(Error::NoRoots);
        }
        Ok(Self(store))
    }
}

/// How TLS is spoken with a server: always verify-full. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TlsSettings(Arc<ClientConfig>);

impl TlsSettings {
    /// Trusts only these roots, and only for the host name we asked for.
    ///
    /// secp256r1 is offered first: it is the only group a PostgreSQL up to 17 accepts by default
    /// (<https://www.postgresql.org/docs/17/runtime-config-connection.html#GUC-SSL-ECDH-CURVE>),
    /// and offering another one first costs a round trip. PostgreSQL 18 accepts it as well.
    ///
    /// # Errors
    ///
    /// [`Error::TlsUnavailable`] if the crypto provider offers no usable protocol version.
    pub fn verify_full(roots: TrustedRoots) -> Result<Self, Error> {
        let mut provider = ring::default_provider();
        provider.kx_groups = vec![
            ring::kx_group::SECP256R1,
            ring::kx_group::X25519,
            ring::kx_group::SECP384R1,
        ];
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .map_err(|source| Error::TlsUnavailable { source })?
            .with_root_certificates(roots.0)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    pub(crate) fn client_config(&self) -> ClientConfig {
        self.0.as_ref().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_a_certificate_is_refused() {
        assert!(matches!(TrustedRoots::from_pem(""), Err(Error::NoRoots)));
        assert!(matches!(TrustedRoots::from_pem("rds"), Err(Error::NoRoots)));
    }

    #[test]
    fn a_damaged_certificate_is_refused() {
        let damaged = "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n";
        assert!(matches!(
            TrustedRoots::from_pem(damaged),
            Err(Error::InvalidRoots { .. })
        ));
        let not_a_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(
            TrustedRoots::from_pem(not_a_certificate),
            Err(Error::UnusableRoot { .. })
        ));
    }
}
