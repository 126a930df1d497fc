//! The smallest complete program: one aggregate, its commands in, its events out.
//!
//! `cargo run -p event-sourcing-actors --example counter`

use std::sync::Arc;

use event_sourcing_actors::{
    Aggregate, CommandData, DecisionContext, Position, Rejection, RuntimeBuilder, Sequence, commands,
    envelope::EventFilter, events, memory::MemoryStore, ports::SystemClock,
};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Increment {
    by: i64,
}
impl CommandData for Increment {}
commands! { enum CounterCommand { Increment } }

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Incremented {
    by: i64,
}
events! { enum CounterEvent { Incremented = 1 } }

#[derive(Debug, thiserror::Error)]
#[error("{0} is too much at once")]
struct TooMuch(i64);
impl Rejection for TooMuch {
    fn code(&self) -> &'static str {
        "too-much"
    }
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct Counter {
    value: i64,
}
impl Aggregate for Counter {
    const TYPE: &'static str = "counter";
    type Command = CounterCommand;
    type Event = CounterEvent;
    type Rejection = TooMuch;

    fn decide(&self, command: &CounterCommand, _: &DecisionContext<'_>) -> Result<Vec<CounterEvent>, TooMuch> {
        let CounterCommand::Increment(Increment { by }) = *command;
        if by > 10 { Err(TooMuch(by)) } else { Ok(vec![Incremented { by }.into()]) }
    }

    fn apply(&mut self, event: &CounterEvent) {
        let CounterEvent::Incremented(Incremented { by }) = event;
        self.value += by;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
    let runtime = RuntimeBuilder::new(store.clone(), store).aggregate::<Counter>()?.start().await?;

    let mut news = std::pin::pin!(runtime.feed().follow(Position::ZERO, EventFilter::default()));
    for by in [1, 2, 3] {
        let accepted = runtime.execute::<Counter>("visits", Increment { by }).await?;
        println!("version {} at position {}", accepted.version, accepted.position);
    }
    if let Err(refusal) = runtime.execute::<Counter>("visits", Increment { by: 11 }).await {
        println!("refused: {refusal}");
    }
    while let Some(event) = news.next().await {
        let event = event?;
        println!("{} {}", event.event_type, String::from_utf8_lossy(&event.data));
        if event.sequence == Sequence(3) {
            break;
        }
    }
    let id = "visits".try_into()?;
    if let Some(state) = runtime.history().state_at(&id, Sequence(u64::MAX), true).await? {
        println!("state {}", String::from_utf8_lossy(&state.state));
    }
    runtime.shutdown().await;
    Ok(())
}
