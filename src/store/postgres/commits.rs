//! Steps of a projection's owner, each one call of the function that takes them.

use std::borrow::Cow;

use event_sourcing_actors::{
    ports::{Checkpoint, Generation, Move, OperationUpdate, StoreError, Transition, ViewCommit, ViewOutcome},
    view::RowKey,
};
use sqlx::{Postgres, postgres::PgArguments, query::Query};

use super::{
    super::view_rows::{projection_columns, status_word, storable, text, touched_bytes},
    PostgresStore,
    error::store_error,
    projections::{lease_ms, state},
};

const COMMIT: &str = concat!(
    "SELECT ",
    projection_columns!(),
    " FROM commit_view($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, \
     $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43, $44, \
     $45, $46, $47)"
);

type Call<'a> = Query<'a, Postgres, PgArguments>;

/// The moves in columns, as the function takes them.
#[derive(Default)]
struct Columns<'a> {
    puts: Keys<'a>,
    datas: Vec<&'a str>,
    deletes: Keys<'a>,
    parked: Parked<'a>,
    settled: Settled,
    retried: Retried<'a>,
}

#[derive(Default)]
struct Keys<'a> {
    generations: Vec<i64>,
    collections: Vec<&'a str>,
    groups: Vec<&'a str>,
    sorts: Vec<&'a str>,
}

#[derive(Default)]
struct Parked<'a> {
    generations: Vec<i64>,
    positions: Vec<i64>,
    keys: Vec<Cow<'a, str>>,
    streams: Vec<&'a str>,
    types: Vec<&'a str>,
    errors: Vec<Cow<'a, str>>,
    attempts: Vec<i64>,
}

#[derive(Default)]
struct Settled {
    generations: Vec<i64>,
    positions: Vec<i64>,
    skips: Vec<bool>,
}

#[derive(Default)]
struct Retried<'a> {
    generations: Vec<i64>,
    positions: Vec<i64>,
    errors: Vec<Cow<'a, str>>,
    attempts: Vec<i64>,
}

impl<'a> Keys<'a> {
    fn push(&mut self, generation: i64, key: &'a RowKey) {
        self.generations.push(generation);
        self.collections.push(&key.collection);
        self.groups.push(&key.group);
        self.sorts.push(&key.sort);
    }

    fn bind(self, query: Call<'a>) -> Call<'a> {
        query.bind(self.generations).bind(self.collections).bind(self.groups).bind(self.sorts)
    }
}

impl<'a> Columns<'a> {
    fn push(&mut self, generation: Generation, step: &'a Move) -> Result<(), StoreError> {
        let generation = generation.0.cast_signed();
        for row in &step.puts {
            self.puts.push(generation, &row.key);
            self.datas.push(text(&row.data)?);
        }
        for key in &step.deletes {
            self.deletes.push(generation, key);
        }
        for new in &step.parked {
            self.parked.generations.push(generation);
            self.parked.positions.push(new.position.as_i64());
            self.parked.keys.push(storable(&new.key));
            self.parked.streams.push(new.aggregate_id.as_str());
            self.parked.types.push(new.event_type.as_str());
            self.parked.errors.push(storable(&new.error));
            self.parked.attempts.push(new.attempts.into());
        }
        for (positions, skips) in [(&step.released, false), (&step.skipped, true)] {
            for position in positions {
                self.settled.generations.push(generation);
                self.settled.positions.push(position.as_i64());
                self.settled.skips.push(skips);
            }
        }
        for again in &step.retried {
            self.retried.generations.push(generation);
            self.retried.positions.push(again.position.as_i64());
            self.retried.errors.push(storable(&again.error));
            self.retried.attempts.push(again.attempts.into());
        }
        Ok(())
    }

    fn bind(self, query: Call<'a>) -> Call<'a> {
        let query = self.deletes.bind(self.puts.bind(query).bind(self.datas));
        let Parked { generations, positions, keys, streams, types, errors, attempts } = self.parked;
        let query = query.bind(generations).bind(positions).bind(keys).bind(streams).bind(types).bind(errors);
        let Settled { generations, positions, skips } = self.settled;
        let query = query.bind(attempts).bind(generations).bind(positions).bind(skips);
        let Retried { generations, positions, errors, attempts } = self.retried;
        query.bind(generations).bind(positions).bind(errors).bind(attempts)
    }
}

/// What is tested of a generation, and what it becomes.
fn bind_move<'a>(query: Call<'a>, step: Option<&'a (Generation, Move)>) -> Call<'a> {
    let to: Option<Checkpoint> = step.map(|(_, step)| step.to);
    let query = query.bind(step.map(|(generation, _)| generation.0.cast_signed()));
    let query = query.bind(step.map(|(_, step)| step.from.as_i64())).bind(to.map(|to| to.position.as_i64()));
    query.bind(to.and_then(|to| to.leaf).map(|leaf| leaf.0.to_vec()))
}

fn bind_transition<'a>(query: Call<'a>, transition: Option<&'a Transition>) -> Call<'a> {
    let (word, fault) = match transition {
        None => (None, None),
        Some(Transition::Swap { force: false }) => (Some("swap"), None),
        Some(Transition::Swap { force: true }) => (Some("force"), None),
        Some(Transition::DropShadow) => (Some("drop"), None),
        Some(Transition::Stop(fault)) => (Some("stop"), Some(fault)),
    };
    let query = query.bind(word).bind(fault.map(|fault| storable(&fault.reason)));
    query.bind(fault.map(|fault| fault.position.as_i64())).bind(fault.map(|fault| fault.at))
}

fn bind_operation<'a>(query: Call<'a>, news: Option<&'a OperationUpdate>) -> Call<'a> {
    let query = query.bind(news.map(|news| news.id)).bind(news.map(|news| status_word(news.status)));
    let query = query.bind(news.map(|news| news.done.cast_signed())).bind(news.map(|news| news.total.cast_signed()));
    let query = query.bind(news.and_then(|news| news.result.as_deref()));
    query.bind(news.and_then(|news| news.error.as_deref()).map(storable))
}

impl PostgresStore {
    pub(super) async fn commit_view(&self, commit: ViewCommit) -> Result<ViewOutcome, StoreError> {
        if let Some(reason) = commit.malformed() {
            return Err(StoreError::Refused { reason });
        }
        let mut columns = Columns::default();
        for (generation, step) in commit.moves() {
            columns.push(*generation, step)?;
        }
        let query = sqlx::query(COMMIT).bind(&commit.projection).bind(commit.owner).bind(commit.epoch.cast_signed());
        let query = bind_move(query.bind(lease_ms(commit.lease)), commit.served.as_ref());
        let query = bind_move(query, commit.shadow.as_ref()).bind(!commit.touched.is_nothing());
        let query = bind_transition(query.bind(touched_bytes(&commit.touched)), commit.transition.as_ref());
        let query = bind_operation(columns.bind(query), commit.operation.as_ref());
        let row = query.fetch_optional(&self.pool).await.map_err(store_error)?;
        let state = row.as_ref().map(state).transpose()?;
        Ok(state.map_or(ViewOutcome::Lost, |state| ViewOutcome::Committed(Box::new(state))))
    }
}
