//! What the first start makes: a domain, its owner, a project and a token.

use dure_store::{Scope, Store, StoreError, user::NewToken};
use dure_types::{Name, Timestamp, user::Role};

use crate::auth;

pub const DOMAIN: &str = "default";
pub const PROJECT: &str = "default";
pub const OWNER: &str = "owner";

/// The owner's secret, if this was the first start: it is told once and kept nowhere here.
pub async fn prepare(store: &Store, now: Timestamp) -> Result<Option<String>, PrepareError> {
    if !store.is_empty().await? {
        return Ok(None);
    }
    let secret = auth::new_secret()?;
    let (domain, project, owner) = (Name::new(DOMAIN)?, Name::new(PROJECT)?, Name::new(OWNER)?);
    let scope = Scope { domain: domain.clone(), project, actor: owner.to_string(), at: now };
    let hash = auth::hash(&secret);
    let token = NewToken {
        id: hash[..12].to_owned(),
        hash,
        domain: domain.clone(),
        user: owner.clone(),
        title: "made by the first start".to_owned(),
        created_by: "dure".to_owned(),
        at: now,
    };
    let write = store.write(move |tx| {
        Box::pin(async move {
            tx.create_domain(&domain, "dure", now).await?;
            tx.create_user(&domain, &owner, true, "dure", now).await?;
            tx.create_project(&scope).await?;
            tx.set_membership(&scope, &owner, Role::Owner).await?;
            tx.create_token(&token).await
        })
    });
    write.await?;
    Ok(Some(secret))
}

#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no randomness: {0}")]
    Random(#[from] getrandom::Error),
    #[error(transparent)]
    Name(#[from] dure_types::name::NameError),
}
