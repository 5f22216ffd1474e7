//! TLS, where the feature is on; otherwise there is none, and `https` is refused when built.

#[cfg(feature = "tls")]
pub(super) use self::on::Tls;

#[cfg(not(feature = "tls"))]
pub(super) use self::off::Tls;

#[cfg(feature = "tls")]
mod on {
    use std::{io, sync::Arc};

    use tokio::net::TcpStream;
    use tokio_rustls::{
        TlsConnector,
        rustls::{ClientConfig, pki_types::ServerName},
    };

    use super::super::connect::Duplex;

    /// The user's configuration of rustls, if he gave one.
    #[derive(Clone)]
    pub(in super::super) struct Tls(Option<TlsConnector>);

    impl Tls {
        pub(in super::super) const fn none() -> Self {
            Self(None)
        }

        pub(in super::super) fn new(mut config: ClientConfig) -> Self {
            // It is what is spoken here. A server that chose another would not be understood.
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Self(Some(Arc::new(config).into()))
        }

        pub(in super::super) const fn is_there(&self) -> bool {
            self.0.is_some()
        }

        pub(in super::super) async fn begin(
            &self,
            host: &str,
            tcp: TcpStream,
        ) -> io::Result<Box<dyn Duplex>> {
            let connector = self.0.as_ref().ok_or(io::ErrorKind::Unsupported)?;
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            Ok(Box::new(connector.connect(name, tcp).await?))
        }
    }
}

#[cfg(not(feature = "tls"))]
mod off {
    use std::{
        future::{Ready, ready},
        io,
    };

    use tokio::net::TcpStream;

    use super::super::connect::Duplex;

    /// There is none.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Tls;

    impl Tls {
        pub(in super::super) const fn none() -> Self {
            Self
        }

        pub(in super::super) const fn is_there(self) -> bool {
            false
        }

        pub(in super::super) fn begin(
            self,
            _: &str,
            _: TcpStream,
        ) -> Ready<io::Result<Box<dyn Duplex>>> {
            ready(Err(io::ErrorKind::Unsupported.into()))
        }
    }
}
