//! From a host's name to its addresses.

use std::{io, net::IpAddr};

/// Finds the addresses of a host. What it answers is not trusted: each address is judged in the
/// moment in which it would be connected to.
///
/// ```
/// use std::{io, net::IpAddr};
/// use buttress_outbox::publisher::http::Resolve;
///
/// struct Fixed;
///
/// #[async_trait::async_trait]
/// impl Resolve for Fixed {
///     async fn resolve(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
///         Ok(vec![[192, 0, 2, 1].into()])
///     }
/// }
/// ```
#[async_trait::async_trait]
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of `host`, the best first. Its future may be dropped at any await.
    ///
    /// # Errors
    ///
    /// When it does not know. No addresses mean the same.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// Asks the operating system.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct SystemResolver;

#[async_trait::async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((host, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}
