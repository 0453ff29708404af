//! Nodes: the machines of the installation, whatever domain uses them.

use dure_types::{
    Name, Timestamp,
    node::{NodeFacts, NodeRate},
};
use sqlx::any::AnyRow;

use crate::{
    Store, StoreError, Tx,
    row::{Columns, clean, sql, to_json},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    pub name: Name,
    pub engine: String,
    pub facts: NodeFacts,
    pub rate: NodeRate,
    /// How limits are held.
    pub limits: String,
    pub ready: bool,
    pub seen_at: Timestamp,
}

impl Tx {
    pub async fn upsert_node(&mut self, node: &NodeRow) -> Result<(), StoreError> {
        sql("INSERT INTO nodes (name, engine, facts, rate, limits, ready, seen_at, created_by, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, 'dure', $7) ON CONFLICT (name) DO UPDATE SET engine = excluded.engine, \
             facts = excluded.facts, rate = excluded.rate, limits = excluded.limits, ready = excluded.ready, \
             seen_at = excluded.seen_at"
            .to_owned())
        .bind(node.name.to_string())
        .bind(clean(&node.engine))
        .bind(to_json(&node.facts)?)
        .bind(to_json(&node.rate)?)
        .bind(clean(&node.limits))
        .bind(i64::from(node.ready))
        .bind(node.seen_at.micros())
        .execute(self.connection())
        .await?;
        Ok(())
    }
}

impl Store {
    pub async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        let query = sqlx::query("SELECT * FROM nodes ORDER BY name");
        query.fetch_all(&self.readers).await?.iter().map(read).collect()
    }
}

fn read(row: &AnyRow) -> Result<NodeRow, StoreError> {
    Ok(NodeRow {
        name: row.parsed("name")?,
        engine: row.text("engine")?,
        facts: row.json("facts")?,
        rate: row.json("rate")?,
        limits: row.text("limits")?,
        ready: row.int("ready")? != 0,
        seen_at: row.time("seen_at")?,
    })
}
