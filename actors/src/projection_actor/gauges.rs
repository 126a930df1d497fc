//! Numbers among the rows, shown as metrics by the owner.

use bytes::Bytes;
use serde_json::Value;

use super::{context::StepError, owner::Owner};
use crate::{ports::Move, projection::RowGauge, view::RowKey};

fn key(gauge: &RowGauge) -> RowKey {
    let (collection, group, sort) = gauge.row;
    RowKey::new(collection, group, sort)
}

/// The member's number; 0 without a row.
fn number(gauge: &RowGauge, row: Option<&Bytes>) -> i64 {
    let row = row.and_then(|data| serde_json::from_slice::<Value>(data).ok());
    row.and_then(|row| row.get(gauge.member).and_then(Value::as_i64)).unwrap_or(0)
}

impl Owner {
    /// What a commit changes of them.
    pub fn changed_gauges(&self, served: Option<&Move>) -> Vec<(&'static str, i64)> {
        let Some(served) = served else { return Vec::new() };
        let changed = |gauge: &RowGauge| {
            let key = key(gauge);
            let put = served.puts.iter().find(|row| row.key == key).map(|row| number(gauge, Some(&row.data)));
            put.or_else(|| served.deletes.contains(&key).then_some(0)).map(|number| (gauge.metric, number))
        };
        self.context.projection.gauges().iter().filter_map(changed).collect()
    }

    /// Shows numbers.
    pub fn set_gauges(&self, numbers: Vec<(&'static str, i64)>) {
        for (metric, number) in numbers {
            self.context.metrics.row_gauge(metric, number);
        }
    }

    /// Reads all of them from the served rows.
    pub async fn show_gauges(&mut self) -> Result<(), StepError> {
        let gauges = self.context.projection.gauges();
        let keys: Vec<RowKey> = gauges.iter().map(key).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let rows = self.context.ask(self.context.views.rows(self.served.generation, &keys)).await?;
        let numbers = gauges.iter().zip(rows).map(|(gauge, row)| (gauge.metric, number(gauge, row.as_ref())));
        self.set_gauges(numbers.collect());
        Ok(())
    }
}
