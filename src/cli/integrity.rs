//! `integrity checkpoint` and `integrity key`: what an auditor takes away, and new keys.

use clap::Subcommand;

use super::{
    Context,
    exit::{Exit, Failure},
    output::talk,
    target::Target,
    verify::evidence,
};

/// Words about checkpoints and keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Integrity {
    /// Print the last signed checkpoint, to be kept where nobody of here can write
    Checkpoint,
    /// Look after the signing key
    #[command(subcommand)]
    Key(Key),
}

/// Words about keys.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum Key {
    /// Print the public keys, the one in use last
    Show,
    /// Make a new key; what the old ones have signed stays verifiable
    Rotate,
}

impl Integrity {
    /// Does it.
    pub(crate) async fn run(self, context: Context) -> Result<(), Failure> {
        let target = Target::open_inspecting(&context).await?;
        let text = match (&target, self) {
            (Target::Local(local), Self::Checkpoint) => match evidence(local)?.newest_outside().await {
                Ok(Some(signed)) => Ok(signed.note),
                Ok(None) => Err(Failure::not_found("no checkpoint is signed yet")),
                Err(error) => Err(unreadable(&error)),
            },
            (Target::Local(local), Self::Key(Key::Show)) => {
                let keys = evidence(local)?.keys().await.map_err(|error| unreadable(&error));
                match keys {
                    Ok(keys) if keys.is_empty() => {
                        Err(Failure::not_found("there is no signing key yet: a server makes one at its first start"))
                    }
                    keys => keys.map(|keys| keys.iter().map(|key| format!("{key}\n")).collect()),
                }
            }
            (Target::Local(local), Self::Key(Key::Rotate)) => {
                let rotate = async { evidence(local)?.rotate_key().await.map_err(|error| unreadable(&error)) };
                let rotated = target.audited("integrity key rotate", "the signing key".to_owned(), rotate).await;
                rotated.map(|key| {
                    talk("from now on checkpoints are signed by this key; tell those who verify them");
                    format!("{key}\n")
                })
            }
            #[cfg(feature = "http")]
            (Target::Remote(remote), Self::Checkpoint) => remote.text("/api/v1/integrity/checkpoint").await,
            #[cfg(feature = "http")]
            (Target::Remote(remote), Self::Key(Key::Show)) => remote.text("/api/v1/integrity/key").await,
            #[cfg(feature = "http")]
            (Target::Remote(_), Self::Key(Key::Rotate)) => {
                Err(Failure::usage("keys lie in files of the server's machine: rotate there, without --url"))
            }
        };
        target.close().await;
        context.output.text(&text?)
    }
}

fn unreadable(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Usage, format!("the folder of the evidence cannot be used: {error}"))
}
