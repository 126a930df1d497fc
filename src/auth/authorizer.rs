//! Roles on the command bus and the query bus, so that whoever embeds the app is held to them as callers over HTTP are.

use std::collections::BTreeMap;

use event_sourcing_actors::{
    command_bus::{Authorizer, CommandRequest, Principal},
    error::CommandError,
    query_bus::{QueryAuthorizer, QueryError, QueryRequest},
};

use super::role::{Role, may};

/// Who may send which command, and ask which query: a writer and a reader, unless a type demands another role.
#[derive(Debug, Clone, Default)]
pub struct RoleAuthorizer {
    /// By command type; events that nobody decided go by the name `AppendEvents`.
    pub commands: BTreeMap<String, Role>,
    /// By query type.
    pub queries: BTreeMap<String, Role>,
}

impl RoleAuthorizer {
    fn demanded(&self, command: &str) -> Role {
        let own = match command {
            // What looks after a saga; its start is a writer's.
            "CancelSaga" | "RetrySaga" => Role::Operator,
            _ => Role::Writer,
        };
        self.commands.get(command).copied().unwrap_or(own)
    }
}

/// Whether nobody has said who this is.
fn is_nobody(principal: &Principal) -> bool {
    principal.roles.is_empty() && principal.name == Principal::anonymous().name
}

impl Authorizer for RoleAuthorizer {
    fn authorize(&self, request: &CommandRequest) -> Result<(), CommandError> {
        let (name, demanded) = (request.action.name(), self.demanded(request.action.name()));
        match &request.principal {
            principal if may(&principal.roles, demanded) => Ok(()),
            nobody if is_nobody(nobody) => Err(CommandError::Unauthenticated),
            principal => {
                let reason = format!("{name} needs the role {demanded}, which {:?} has not", principal.name);
                Err(CommandError::Forbidden { reason })
            }
        }
    }
}

impl QueryAuthorizer for RoleAuthorizer {
    fn authorize(&self, request: &QueryRequest) -> Result<(), QueryError> {
        let demanded = self.queries.get(&request.query_type).copied().unwrap_or(Role::Reader);
        match &request.principal {
            principal if may(&principal.roles, demanded) => Ok(()),
            nobody if is_nobody(nobody) => Err(QueryError::Unauthenticated),
            _ => Err(QueryError::Forbidden { role: demanded.as_str().to_owned() }),
        }
    }
}
