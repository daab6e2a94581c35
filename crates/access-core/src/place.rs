//! Where a window gives something: a database, or an account of AWS. A request pins its place.

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::catalogue::{self, AssumedRole, Database};
use crate::document::Object;
use crate::fault::{FaultName, Faults};
use crate::principal;

/// The place of a request, whose target names it.
///
/// In a stored request it is a field of its own name, so that requests of releases that knew databases only are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// A database: `databases/{target}`.
    Database(Box<Database>),
    /// An account of AWS: `accounts/{target}`.
    Account(Account),
}

impl From<Database> for Place {
    fn from(database: Database) -> Self {
        Self::Database(Box::new(database))
    }
}

impl From<Account> for Place {
    fn from(account: Account) -> Self {
        Self::Account(account)
    }
}

impl Place {
    /// The database, if it is one.
    #[must_use]
    pub fn database(&self) -> Option<&Database> {
        match self {
            Self::Database(database) => Some(database),
            Self::Account(_) => None,
        }
    }

    /// The account, if it is one.
    #[must_use]
    pub fn account(&self) -> Option<&Account> {
        match self {
            Self::Account(account) => Some(account),
            Self::Database(_) => None,
        }
    }

    /// The zone in which people read times for it: the catalogue's, or UTC.
    #[must_use]
    pub fn display_zone(&self) -> Tz {
        self.time_zone().unwrap_or(Tz::UTC)
    }

    /// The zone in which times without an offset are read, if the catalogue names one.
    #[must_use]
    pub fn time_zone(&self) -> Option<Tz> {
        match self {
            Self::Database(database) => database.time_zone,
            Self::Account(account) => account.time_zone,
        }
    }

    /// The folder of the catalogue that it stands in.
    #[must_use]
    pub fn folder(&self) -> &'static str {
        match self {
            Self::Database(_) => "databases",
            Self::Account(_) => "accounts",
        }
    }

    /// Whether `other` is the same place, however it is reached.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Database(one), Self::Database(other)) => {
                (&one.location, &one.database) == (&other.location, &other.database)
            }
            (Self::Account(one), Self::Account(other)) => one.id == other.id,
            _ => false,
        }
    }
}

/// An account of AWS, and with whose rights access to its roles is given and taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its id, twelve digits.
    pub id: String,
    /// How it is reached, if it is not the account that Latchkey is deployed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assume: Option<AccountRoles>,
    /// The IANA zone in which people read and write times for it; UTC if absent.
    pub time_zone: Option<Tz>,
}

/// The roles of Latchkey in another account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRoles {
    /// Assumed by grant-policy: it may write policies that allow.
    pub granter: AssumedRole,
    /// Assumed by revoke-policy: it may only take policies away, and write those that deny.
    pub revoker: AssumedRole,
}

impl Account {
    /// Reads an account document; `None` if a fault was found.
    pub fn read(value: &Value, faults: &mut Faults) -> Option<Self> {
        let mut object = Object::new(value, "$", faults)?;
        object.optional("$schema");
        let id = object.text("account", faults).map(str::to_owned);
        if let Some(id) = &id
            && !(id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_digit()))
        {
            faults.add(
                FaultName::InvalidValue,
                "$.account",
                "give the account's id, twelve digits, as a text",
            );
        }
        let granter = catalogue::read_assumed_role(&mut object, "granter", faults);
        let revoker = catalogue::read_assumed_role(&mut object, "revoker", faults);
        let assume = match (granter, revoker) {
            (None, None) => None,
            (Some(granter), Some(revoker)) => {
                if granter.role == revoker.role {
                    faults.add(
                        FaultName::InvalidValue,
                        "$.revoker.role",
                        "name another role than the granter's: the one that takes access away must not be able to give it",
                    );
                }
                for (field, assumed) in [("granter", &granter), ("revoker", &revoker)] {
                    if principal::account_of_role(&assumed.role) != id.as_deref() {
                        faults.add(
                            FaultName::InvalidValue,
                            format!("$.{field}.role"),
                            "name a role of this account",
                        );
                    }
                }
                Some(AccountRoles { granter, revoker })
            }
            _ => {
                faults.add(
                    FaultName::ConflictingFields,
                    "$",
                    "give both \"granter\" and \"revoker\", or neither for the account that Latchkey is deployed in",
                );
                None
            }
        };
        let time_zone = catalogue::read_time_zone(&mut object, faults);
        object.finish(faults);
        Some(Self {
            id: id?,
            assume,
            time_zone,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_place_is_a_field_named_after_what_it_is() {
        let account = Place::Account(Account {
            id: "210987654321".to_owned(),
            assume: None,
            time_zone: None,
        });
        let written = serde_json::to_value(&account).unwrap();
        assert_eq!(
            written,
            json!({"account": {"id": "210987654321", "time_zone": null}})
        );
        assert_eq!(serde_json::from_value::<Place>(written).unwrap(), account);
    }

    #[test]
    fn an_account_elsewhere_has_two_roles_apart() {
        let role = |name: &str| json!({"role": format!("arn:aws:iam::210987654321:role/{name}"), "external_id": "deployment:1"});
        let read = |document: Value| {
            let mut faults = Faults::new();
            Account::read(&document, &mut faults);
            let found = faults.into_vec().into_iter().map(|fault| fault.path);
            found.collect::<Vec<_>>()
        };
        let sound = json!({"account": "210987654321", "granter": role("G"), "revoker": role("R")});
        assert_eq!(read(sound.clone()), Vec::<String>::new());
        let mut document = sound.clone();
        document["revoker"] = role("G");
        assert_eq!(read(document), ["$.revoker.role"]);
        let mut document = sound;
        document["revoker"] = Value::Null;
        assert_eq!(read(document), ["$"]);
    }
}
