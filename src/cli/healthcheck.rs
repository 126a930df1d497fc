//! `healthcheck`: for containers, which have no `curl`.

#[cfg(not(feature = "http"))]
use super::{Context, exit::Failure};

#[cfg(not(feature = "http"))]
pub(crate) async fn run(_: Context) -> Result<(), Failure> {
    Err(Failure::usage("healthcheck needs the feature \"http\", which this program was built without"))
}

#[cfg(feature = "http")]
pub(crate) use with_http::{own, run};

#[cfg(feature = "http")]
mod with_http {
    use std::{
        net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
        time::Duration,
    };

    use event_sourcing_cqrs::settings::ListenAddress;

    use super::super::{
        Context,
        exit::{Exit, Failure},
        output::talk,
        remote::Remote,
    };

    /// Shorter than the 5 s a container's runtime gives, so that the reason is told.
    const PATIENCE: Duration = Duration::from_secs(3);

    /// Asks `--url`, or the server of these settings, whether it is ready.
    pub(crate) async fn run(context: Context) -> Result<(), Failure> {
        let url = match context.url {
            Some(url) => url,
            None => own(&context.settings.http.bind_address)?,
        };
        let remote = Remote::new(&url, context.timeout.min(PATIENCE))?;
        // Whatever the reason, an orchestrator knows two answers.
        let failed = |reason: String| Failure::new(Exit::Failed, format!("{url} is not ready: {reason}"));
        let (status, health) = match remote.document("/health/ready").await {
            Ok(answer) => answer,
            Err(failure) => return Err(failed(failure.to_string())),
        };
        if status != 200 {
            let output = health["output"].as_str().unwrap_or("no reason was given");
            return Err(failed(output.to_owned()));
        }
        talk(&format!("{url} is ready"));
        Ok(())
    }

    /// Where to reach a server that listens there from the same machine.
    pub(crate) fn own(address: &ListenAddress) -> Result<String, Failure> {
        if address.port() == 0 {
            return Err(Failure::usage("port 0 takes a free one, so its number is not known here: name it with --url"));
        }
        let Some(numbers) = address.numbers() else { return Ok(format!("http://{address}")) };
        let ip = match numbers.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        Ok(format!("http://{}", SocketAddr::new(ip, address.port())))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn server_on_all_addresses_is_asked_over_loopback() {
            let own = |text: &str| own(&text.parse().unwrap()).ok();
            assert_eq!(own("0.0.0.0:8000").as_deref(), Some("http://127.0.0.1:8000"));
            assert_eq!(own("[::]:80").as_deref(), Some("http://[::1]:80"));
            assert_eq!(own("10.1.2.3:80").as_deref(), Some("http://10.1.2.3:80"));
            assert_eq!(own("localhost:80").as_deref(), Some("http://localhost:80"));
            assert_eq!(own("127.0.0.1:0"), None);
        }
    }
}
