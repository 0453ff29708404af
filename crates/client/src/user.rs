//! Who acts: identity, projects, members, users, tokens.

use dure_types::{
    Name, Page,
    user::{
        CreateProject, CreateToken, CreateUser, Identity, Membership, Project, SetMembership, Token, TokenCreated, User,
    },
};
use reqwest::Method;

use crate::{Client, ClientError};

impl Client {
    pub async fn get_identity(&self) -> Result<Identity, ClientError> {
        self.json(self.api(Method::GET, &["me"])?).await
    }

    pub async fn list_projects(&self) -> Result<Page<Project>, ClientError> {
        self.json(self.api(Method::GET, &["projects"])?).await
    }

    pub async fn create_project(&self, project: &CreateProject) -> Result<Project, ClientError> {
        self.json(self.api(Method::POST, &["projects"])?.json(project)).await
    }

    pub async fn list_members(&self) -> Result<Page<Membership>, ClientError> {
        self.get(&["members"]).await
    }

    pub async fn set_member(&self, user: &Name, membership: &SetMembership) -> Result<Membership, ClientError> {
        self.give(Method::PUT, &["members", user.as_str()], membership).await
    }

    pub async fn remove_member(&self, user: &Name) -> Result<(), ClientError> {
        self.nothing(self.of_project(Method::DELETE, &["members", user.as_str()])?).await
    }

    pub async fn list_users(&self) -> Result<Page<User>, ClientError> {
        self.json(self.api(Method::GET, &["users"])?).await
    }

    pub async fn create_user(&self, user: &CreateUser) -> Result<User, ClientError> {
        self.json(self.api(Method::POST, &["users"])?.json(user)).await
    }

    pub async fn list_tokens(&self) -> Result<Page<Token>, ClientError> {
        self.json(self.api(Method::GET, &["tokens"])?).await
    }

    pub async fn create_token(&self, token: &CreateToken) -> Result<TokenCreated, ClientError> {
        self.json(self.api(Method::POST, &["tokens"])?.json(token)).await
    }

    pub async fn revoke_token(&self, id: &str) -> Result<(), ClientError> {
        self.nothing(self.api(Method::DELETE, &["tokens", id])?).await
    }
}
