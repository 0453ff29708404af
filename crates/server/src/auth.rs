//! Who calls: tokens are looked up by their hash in a snapshot that is remade when anything about
//! users, memberships or tokens changes.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use dure_plan::permission::Caller;
use dure_store::{Store, StoreError};
use dure_types::{Name, user::Role};
use sha2::{Digest as _, Sha256};

#[derive(Clone, Default)]
pub struct Auth {
    known: Arc<ArcSwap<HashMap<String, Caller>>>,
    /// Project to its domain: names are unique in an installation.
    projects: Arc<ArcSwap<HashMap<Name, Name>>>,
}

impl Auth {
    pub async fn refresh(&self, store: &Store) -> Result<(), StoreError> {
        let rows = store.token_table().await?;
        let known = rows.into_iter().map(|row| {
            let caller = Caller { user: row.user, domain: row.domain, owner: row.owner, projects: row.projects };
            (row.hash, caller)
        });
        self.known.store(Arc::new(known.collect()));
        let projects = store.all_projects().await?;
        self.projects.store(Arc::new(projects.into_iter().map(|project| (project.name, project.domain)).collect()));
        Ok(())
    }

    /// Looks up by hash: comparing secrets byte by byte would tell how far a guess was right.
    pub fn caller(&self, secret: &str) -> Option<Caller> {
        self.known.load().get(&hash(secret)).cloned()
    }

    pub fn domain_of(&self, project: &Name) -> Option<Name> {
        self.projects.load().get(project).cloned()
    }

    /// The projects that a caller may read, for answers that span several.
    pub fn readable(&self, caller: &Caller) -> Vec<Name> {
        let projects = self.projects.load();
        let mut names: Vec<_> = projects
            .iter()
            .filter(|(_, domain)| **domain == caller.domain)
            .filter(|(name, _)| caller.role(name).is_some_and(|role| role >= Role::Viewer))
            .map(|(name, _)| name.clone())
            .collect();
        names.sort();
        names
    }

    /// For the gateway: hash to user and the projects whose services they may ask.
    pub fn gateway_callers(&self) -> Vec<(dure_gateway::TokenHash, dure_gateway::Caller)> {
        let known = self.known.load();
        let mut callers = Vec::with_capacity(known.len());
        for (hash, caller) in known.iter() {
            let mut bytes = [0; 32];
            if hex::decode_to_slice(hash, &mut bytes).is_err() {
                continue;
            }
            let projects = self.readable(caller).iter().map(ToString::to_string).collect();
            let projects = dure_gateway::Projects::Only(projects);
            let of_gateway = dure_gateway::Caller::new(caller.user.as_str(), projects);
            callers.push((dure_gateway::TokenHash(bytes), of_gateway));
        }
        callers
    }
}

/// Tokens are stored and compared as this.
pub fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

/// A new secret: 192 random bits behind a mark that secret scanners can find.
pub fn new_secret() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes)?;
    Ok(format!("dure_{}", hex::encode(bytes)))
}
