//! Domains, their users and projects, who is what in which project, and the hashes of tokens.

use std::collections::HashMap;

use dure_types::{
    Name, Timestamp,
    user::{Membership, Project, Role, Token, User},
};
use sqlx::any::AnyRow;

use crate::{
    Scope, Store, StoreError, Tx,
    row::{Columns, Conditions, clean, sql},
};

/// Everything that says who a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    pub id: String,
    /// Of the secret, in hexadecimal.
    pub hash: String,
    pub user: Name,
    pub domain: Name,
    /// Of the domain.
    pub owner: bool,
    pub projects: Vec<(Name, Role)>,
}

/// A token as it is made.
#[derive(Debug, Clone)]
pub struct NewToken {
    pub id: String,
    pub hash: String,
    pub domain: Name,
    pub user: Name,
    pub title: String,
    pub created_by: String,
    pub at: Timestamp,
}

impl Tx {
    pub async fn create_domain(&mut self, domain: &Name, actor: &str, at: Timestamp) -> Result<(), StoreError> {
        let made =
            sql("INSERT INTO domains (name, created_by, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
                .to_owned())
            .bind(domain.to_string())
            .bind(clean(actor))
            .bind(at.micros())
            .execute(self.connection())
            .await?;
        new(made.rows_affected(), || format!("domain {domain}"))
    }

    pub async fn create_user(
        &mut self,
        domain: &Name,
        name: &Name,
        owner: bool,
        actor: &str,
        at: Timestamp,
    ) -> Result<User, StoreError> {
        let made = sql("INSERT INTO users (domain, name, owner, created_by, created_at) \
             SELECT name, $2, $3, $4, $5 FROM domains WHERE name = $1 ON CONFLICT DO NOTHING"
            .to_owned())
        .bind(domain.to_string())
        .bind(name.to_string())
        .bind(i64::from(owner))
        .bind(clean(actor))
        .bind(at.micros())
        .execute(self.connection())
        .await?;
        new(made.rows_affected(), || format!("user {name}"))?;
        Ok(User { name: name.clone(), domain: domain.clone(), owner, created_at: at })
    }

    /// Names of projects are unique in the whole installation: they stand in the addresses of services.
    pub async fn create_project(&mut self, scope: &Scope) -> Result<Project, StoreError> {
        let made = sql("INSERT INTO projects (name, domain, created_by, created_at) \
             SELECT $2, name, $3, $4 FROM domains WHERE name = $1 ON CONFLICT DO NOTHING"
            .to_owned())
        .bind(scope.domain.to_string())
        .bind(scope.project.to_string())
        .bind(clean(&scope.actor))
        .bind(scope.at.micros())
        .execute(self.connection())
        .await?;
        new(made.rows_affected(), || format!("project {}", scope.project))?;
        self.add_event(scope, "project", scope.project.as_str(), "created", None).await?;
        Ok(Project {
            name: scope.project.clone(),
            domain: scope.domain.clone(),
            created_by: scope.actor.clone(),
            created_at: scope.at,
        })
    }

    pub async fn set_membership(&mut self, scope: &Scope, user: &Name, role: Role) -> Result<Membership, StoreError> {
        let set = sql("INSERT INTO memberships (project, user_name, role, domain, created_by, created_at) \
             SELECT p.name, u.name, $4, p.domain, $5, $6 FROM projects p JOIN users u ON u.domain = p.domain \
             WHERE p.domain = $1 AND p.name = $2 AND u.name = $3 \
             ON CONFLICT (project, user_name) DO UPDATE SET role = excluded.role"
            .to_owned())
        .bind(scope.domain.to_string())
        .bind(scope.project.to_string())
        .bind(user.to_string())
        .bind(role.as_str())
        .bind(clean(&scope.actor))
        .bind(scope.at.micros())
        .execute(self.connection())
        .await?;
        existing(set.rows_affected(), || format!("user {user}"))?;
        self.add_event(scope, "project", scope.project.as_str(), "member_set", Some(user.as_str())).await?;
        Ok(Membership { project: scope.project.clone(), user: user.clone(), role })
    }

    pub async fn remove_membership(&mut self, scope: &Scope, user: &Name) -> Result<(), StoreError> {
        let removed = sql("DELETE FROM memberships WHERE domain = $1 AND project = $2 AND user_name = $3".to_owned())
            .bind(scope.domain.to_string())
            .bind(scope.project.to_string())
            .bind(user.to_string())
            .execute(self.connection())
            .await?;
        existing(removed.rows_affected(), || format!("member {user}"))?;
        self.add_event(scope, "project", scope.project.as_str(), "member_removed", Some(user.as_str())).await?;
        Ok(())
    }

    pub async fn create_token(&mut self, token: &NewToken) -> Result<Token, StoreError> {
        let made = sql("INSERT INTO tokens (id, hash, user_name, title, domain, created_by, created_at) \
             SELECT $3, $4, name, $5, domain, $6, $7 FROM users WHERE domain = $1 AND name = $2"
            .to_owned())
        .bind(token.domain.to_string())
        .bind(token.user.to_string())
        .bind(clean(&token.id))
        .bind(clean(&token.hash))
        .bind(clean(&token.title))
        .bind(clean(&token.created_by))
        .bind(token.at.micros())
        .execute(self.connection())
        .await?;
        existing(made.rows_affected(), || format!("user {}", token.user))?;
        Ok(Token { id: token.id.clone(), user: token.user.clone(), title: token.title.clone(), created_at: token.at })
    }

    /// Of this user, or of anybody in the domain.
    pub async fn revoke_token(&mut self, domain: &Name, user: Option<&Name>, id: &str) -> Result<(), StoreError> {
        let mut conditions = Conditions::default();
        conditions.add("domain = ?", [domain.as_str().into()]);
        conditions.add("id = ?", [clean(id).as_str().into()]);
        if let Some(user) = user {
            conditions.add("user_name = ?", [user.as_str().into()]);
        }
        let removed = conditions.query("DELETE FROM tokens", "").execute(self.connection()).await?;
        existing(removed.rows_affected(), || format!("token {id}"))
    }
}

impl Store {
    /// Nothing was ever set up in it.
    pub async fn is_empty(&self) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT COUNT(*) AS domains FROM domains").fetch_one(&self.readers).await?;
        Ok(row.int("domains")? == 0)
    }

    pub async fn project(&self, name: &Name) -> Result<Project, StoreError> {
        let query = sql("SELECT * FROM projects WHERE name = $1".to_owned()).bind(name.to_string());
        let row = query.fetch_optional(&self.readers).await?;
        row.as_ref().map(read_project).transpose()?.ok_or_else(|| StoreError::not_found(format!("project {name}")))
    }

    /// Of every domain.
    pub async fn all_projects(&self) -> Result<Vec<Project>, StoreError> {
        let query = sqlx::query("SELECT * FROM projects ORDER BY name");
        query.fetch_all(&self.readers).await?.iter().map(read_project).collect()
    }

    pub async fn projects(&self, domain: &Name) -> Result<Vec<Project>, StoreError> {
        let query = sql("SELECT * FROM projects WHERE domain = $1 ORDER BY name".to_owned()).bind(domain.to_string());
        query.fetch_all(&self.readers).await?.iter().map(read_project).collect()
    }

    /// Those that a user is a member of.
    pub async fn projects_of(&self, domain: &Name, user: &Name) -> Result<Vec<Project>, StoreError> {
        let query = sql("SELECT p.* FROM projects p JOIN memberships m ON m.project = p.name \
             WHERE m.domain = $1 AND m.user_name = $2 ORDER BY p.name"
            .to_owned());
        let query = query.bind(domain.to_string()).bind(user.to_string());
        query.fetch_all(&self.readers).await?.iter().map(read_project).collect()
    }

    pub async fn users(&self, domain: &Name) -> Result<Vec<User>, StoreError> {
        let query = sql("SELECT * FROM users WHERE domain = $1 ORDER BY name".to_owned()).bind(domain.to_string());
        query.fetch_all(&self.readers).await?.iter().map(read_user).collect()
    }

    pub async fn memberships(&self, project: &Name) -> Result<Vec<Membership>, StoreError> {
        let query = sql("SELECT * FROM memberships WHERE project = $1 ORDER BY user_name".to_owned());
        query.bind(project.to_string()).fetch_all(&self.readers).await?.iter().map(read_membership).collect()
    }

    /// The tokens of a domain, or of one of its users.
    pub async fn tokens(&self, domain: &Name, user: Option<&Name>) -> Result<Vec<Token>, StoreError> {
        let mut conditions = Conditions::default();
        conditions.add("domain = ?", [domain.as_str().into()]);
        if let Some(user) = user {
            conditions.add("user_name = ?", [user.as_str().into()]);
        }
        let query = conditions.query("SELECT id, user_name, title, created_at FROM tokens", " ORDER BY created_at, id");
        query.fetch_all(&self.readers).await?.iter().map(read_token).collect()
    }

    /// All tokens with what they open, for whoever authenticates requests in memory.
    pub async fn token_table(&self) -> Result<Vec<TokenRow>, StoreError> {
        let query = sqlx::query("SELECT domain, user_name, project, role FROM memberships ORDER BY project");
        let mut projects: HashMap<(String, String), Vec<(Name, Role)>> = HashMap::new();
        for row in query.fetch_all(&self.readers).await? {
            let user = (row.text("domain")?, row.text("user_name")?);
            projects.entry(user).or_default().push((row.parsed("project")?, row.parsed("role")?));
        }
        let query = sqlx::query(
            "SELECT t.id, t.hash, t.user_name, t.domain, u.owner FROM tokens t \
             JOIN users u ON u.domain = t.domain AND u.name = t.user_name ORDER BY t.id",
        );
        let read = |row: &AnyRow| {
            let user = (row.text("domain")?, row.text("user_name")?);
            Ok(TokenRow {
                id: row.text("id")?,
                hash: row.text("hash")?,
                user: row.parsed("user_name")?,
                domain: row.parsed("domain")?,
                owner: row.int("owner")? != 0,
                projects: projects.get(&user).cloned().unwrap_or_default(),
            })
        };
        query.fetch_all(&self.readers).await?.iter().map(read).collect()
    }
}

fn new(rows: u64, what: impl FnOnce() -> String) -> Result<(), StoreError> {
    if rows > 0 { Ok(()) } else { Err(StoreError::Exists { what: what() }) }
}

fn existing(rows: u64, what: impl FnOnce() -> String) -> Result<(), StoreError> {
    if rows > 0 { Ok(()) } else { Err(StoreError::NotFound { what: what() }) }
}

fn read_project(row: &AnyRow) -> Result<Project, StoreError> {
    Ok(Project {
        name: row.parsed("name")?,
        domain: row.parsed("domain")?,
        created_by: row.text("created_by")?,
        created_at: row.time("created_at")?,
    })
}

fn read_user(row: &AnyRow) -> Result<User, StoreError> {
    Ok(User {
        name: row.parsed("name")?,
        domain: row.parsed("domain")?,
        owner: row.int("owner")? != 0,
        created_at: row.time("created_at")?,
    })
}

fn read_membership(row: &AnyRow) -> Result<Membership, StoreError> {
    Ok(Membership { project: row.parsed("project")?, user: row.parsed("user_name")?, role: row.parsed("role")? })
}

fn read_token(row: &AnyRow) -> Result<Token, StoreError> {
    Ok(Token {
        id: row.text("id")?,
        user: row.parsed("user_name")?,
        title: row.text("title")?,
        created_at: row.time("created_at")?,
    })
}
