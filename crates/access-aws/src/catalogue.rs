//! The catalogue in Parameter Store: `{prefix}/databases/…`, `{prefix}/accounts/…`, `{prefix}/roles/…`,
//! `{prefix}/people/…`.

use std::collections::{BTreeMap, BTreeSet};

use access_core::catalogue::{self, Database, Person, RolePolicy};
use access_core::request::{Found, RequestDraft};
use access_core::{Account, Faults, PersonId, Place, Request, RoleName, TargetId};
use aws_sdk_ssm::Client;
use serde_json::Value;

use crate::Error;
use crate::error::chain;

/// A database or an account of the catalogue with its roles.
#[derive(Debug, Clone)]
pub struct Entry<T> {
    /// Its name.
    pub target: TargetId,
    /// How to reach it.
    pub place: T,
    /// What may be requested of it.
    pub roles: Vec<RolePolicy>,
}

impl<T> Entry<T> {
    fn at_any_place(self) -> Entry<Place>
    where
        T: Into<Place>,
    {
        Entry {
            target: self.target,
            place: self.place.into(),
            roles: self.roles,
        }
    }
}

/// All databases or accounts of the catalogue.
#[derive(Debug, Clone)]
pub struct Entries<T> {
    /// Those whose documents are sound, with the roles whose documents are.
    pub entries: Vec<Entry<T>>,
    /// How many documents are faulty. What they say is not known: a role without its document is only watched.
    pub n_faulty: u32,
}

/// Reads the catalogue. Nothing is kept between readings: a warm function must not decide on
/// yesterday's approvers.
pub struct Catalogue {
    client: Client,
    prefix: String,
}

impl Catalogue {
    /// The catalogue under `prefix`, such as `/latchkey/prod`.
    #[must_use]
    pub fn new(client: Client, prefix: String) -> Self {
        Self {
            client,
            prefix: prefix.trim_end_matches('/').to_owned(),
        }
    }

    /// Everything that the catalogue says about the names in a draft.
    ///
    /// # Errors
    /// [`Error::Catalogue`] if Parameter Store cannot be read, [`Error::CatalogueFaulty`] if a document is faulty.
    pub async fn find(&self, draft: &RequestDraft) -> Result<Found, Error> {
        let (target, role) = (draft.target.as_ref(), draft.role.as_ref());
        self.look_up(target, role, draft.requester.as_ref()).await
    }

    /// Everything that the catalogue says by now about the names in a request.
    ///
    /// # Errors
    /// As [`Catalogue::find`].
    pub async fn find_again(&self, request: &Request) -> Result<Found, Error> {
        let requester = Some(&request.requester.id);
        self.look_up(Some(&request.target), Some(&request.role), requester)
            .await
    }

    async fn look_up(
        &self,
        target: Option<&TargetId>,
        role: Option<&RoleName>,
        requester: Option<&PersonId>,
    ) -> Result<Found, Error> {
        let (place, role) = match target {
            None => (None, None),
            Some(target) => {
                let role = async {
                    match role {
                        Some(role) => self.role(target, role).await,
                        None => Ok(None),
                    }
                };
                tokio::try_join!(self.place(target), role)?
            }
        };
        let mut wanted: BTreeSet<PersonId> = requester.into_iter().cloned().collect();
        if let Some((policy, _)) = &role {
            let reviewers = policy.break_glass.iter().flat_map(|it| &it.reviewers);
            let listed = policy.approvers.iter().chain(&policy.operators);
            wanted.extend(listed.chain(reviewers).cloned());
        }
        Ok(Found {
            place,
            role,
            people: self.people(&wanted).await?,
        })
    }

    /// The mailboxes of those of `people` whose documents are there and sound.
    ///
    /// # Errors
    /// [`Error::Catalogue`] if Parameter Store cannot be read.
    pub async fn mailboxes(
        &self,
        people: &BTreeSet<PersonId>,
    ) -> Result<BTreeMap<PersonId, String>, Error> {
        let mut mailboxes = BTreeMap::new();
        for document in self.parameters(self.names_of(people)).await? {
            let name = document.name.clone();
            match document.read(Person::read) {
                Ok((person, _)) if name.ends_with(&format!("/people/{}", person.id)) => {
                    mailboxes.insert(person.id, person.mailbox);
                }
                Ok((person, _)) => {
                    tracing::error!(parameter = name, id = %person.id, "a document under another's name");
                }
                Err(error) => tracing::error!(parameter = name, "{error}"),
            }
        }
        Ok(mailboxes)
    }

    /// The PEM text in a parameter of any name.
    ///
    /// # Errors
    /// [`Error::Catalogue`] if it cannot be read or is not there.
    pub async fn certificate_authority(client: &Client, name: &str) -> Result<String, Error> {
        let output = client
            .get_parameter()
            .name(name)
            .send()
            .await
            .map_err(|error| {
                Error::Catalogue(format!("certificate authority {name}: {}", chain(error)))
            })?;
        output
            .parameter
            .and_then(|parameter| parameter.value)
            .ok_or_else(|| Error::Catalogue(format!("certificate authority {name} is empty")))
    }

    /// Every database and the policies of its roles. One faulty document hides no other, and counts.
    ///
    /// # Errors
    /// [`Error::Catalogue`] if Parameter Store cannot be read.
    pub async fn databases(&self) -> Result<Entries<Database>, Error> {
        self.entries("databases", Database::read).await
    }

    /// Every account, likewise.
    ///
    /// # Errors
    /// [`Error::Catalogue`] if Parameter Store cannot be read.
    pub async fn accounts(&self) -> Result<Entries<Account>, Error> {
        self.entries("accounts", Account::read).await
    }

    /// Both.
    ///
    /// # Errors
    /// [`Error::Catalogue`] if Parameter Store cannot be read.
    pub async fn everything(&self) -> Result<Vec<Entry<Place>>, Error> {
        let (databases, accounts) = tokio::try_join!(self.databases(), self.accounts())?;
        let databases = databases.entries.into_iter().map(Entry::at_any_place);
        let accounts = accounts.entries.into_iter().map(Entry::at_any_place);
        Ok(databases.chain(accounts).collect())
    }

    async fn entries<T>(
        &self,
        folder: &str,
        read: impl Fn(&Value, &mut Faults) -> Option<T>,
    ) -> Result<Entries<T>, Error> {
        let mut entries = BTreeMap::new();
        let mut n_faulty = 0;
        for document in self.below(&format!("{}/{folder}", self.prefix)).await? {
            let id = document
                .name
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_owned();
            let name = document.name.clone();
            let Ok(target) = TargetId::new(id) else {
                tracing::error!(
                    parameter = name,
                    "no database or account can have this name"
                );
                n_faulty += 1;
                continue;
            };
            match document.read(&read) {
                Ok((place, _)) => {
                    entries.insert(
                        target.clone(),
                        Entry {
                            target,
                            place,
                            roles: Vec::new(),
                        },
                    );
                }
                Err(error) => {
                    tracing::error!(parameter = name, "{error}");
                    n_faulty += 1;
                }
            }
        }
        for document in self.below(&format!("{}/roles", self.prefix)).await? {
            let name = document.name.clone();
            let target = name
                .rsplit('/')
                .nth(1)
                .and_then(|id| TargetId::new(id).ok());
            let Some(entry) = target.and_then(|target| entries.get_mut(&target)) else {
                continue;
            };
            match document.read(RolePolicy::read) {
                Ok((policy, _)) => entry.roles.push(policy),
                Err(error) => {
                    tracing::error!(parameter = name, "{error}");
                    n_faulty += 1;
                }
            }
        }
        Ok(Entries {
            entries: entries.into_values().collect(),
            n_faulty,
        })
    }

    /// Everybody. A faulty document is logged and left out: that person cannot ask, the others can.
    ///
    /// # Errors
    /// [`Error::Catalogue`] if Parameter Store cannot be read.
    pub async fn everybody(&self) -> Result<Vec<Person>, Error> {
        let mut people = Vec::new();
        for document in self.below(&format!("{}/people", self.prefix)).await? {
            let name = document.name.clone();
            match document.read(Person::read) {
                Ok((person, _)) if name.ends_with(&format!("/people/{}", person.id)) => {
                    people.push(person);
                }
                Ok(_) => tracing::error!(parameter = name, "its id is not the end of its name"),
                Err(error) => tracing::error!(parameter = name, "{error}"),
            }
        }
        Ok(people)
    }

    async fn below(&self, path: &str) -> Result<Vec<Document>, Error> {
        let mut pages = self
            .client
            .get_parameters_by_path()
            .path(path)
            .recursive(true)
            .into_paginator()
            .send();
        let mut documents = Vec::new();
        while let Some(page) = pages.next().await {
            let page =
                page.map_err(|error| Error::Catalogue(format!("{path}: {}", chain(error))))?;
            documents.extend(
                page.parameters
                    .unwrap_or_default()
                    .into_iter()
                    .filter_map(Document::of),
            );
        }
        Ok(documents)
    }

    async fn place(&self, target: &TargetId) -> Result<Option<(Place, i64)>, Error> {
        let names =
            ["databases", "accounts"].map(|folder| format!("{}/{folder}/{target}", self.prefix));
        let [database, _] = &names;
        let mut found = self.parameters(names.to_vec()).await?;
        if found.len() > 1 {
            return Err(Error::CatalogueFaulty {
                name: database.clone(),
                faults: vec![access_core::Fault::new(
                    access_core::FaultName::ConflictingFields,
                    "$",
                    "give the database and the account of this name names of their own",
                )],
            });
        }
        let Some(document) = found.pop() else {
            return Ok(None);
        };
        let place = if document.name == *database {
            document.read(|value, faults| Database::read(value, faults).map(Place::from))
        } else {
            document.read(|value, faults| Account::read(value, faults).map(Place::from))
        };
        place.map(Some)
    }

    async fn role(
        &self,
        target: &TargetId,
        role: &RoleName,
    ) -> Result<Option<(RolePolicy, i64)>, Error> {
        for document in self
            .below(&format!("{}/roles/{target}", self.prefix))
            .await?
        {
            // Only the document asked for has to be sound: a slip in one role must not stop the others.
            if document.role_name().as_deref() == Some(role.as_str()) {
                return document.read(RolePolicy::read).map(Some);
            }
        }
        Ok(None)
    }

    async fn people(
        &self,
        ids: &BTreeSet<PersonId>,
    ) -> Result<BTreeMap<PersonId, (Person, i64)>, Error> {
        let mut people = BTreeMap::new();
        for document in self.parameters(self.names_of(ids)).await? {
            let name = document.name.clone();
            let (person, version) = document.read(Person::read)?;
            if !name.ends_with(&format!("/people/{}", person.id)) {
                return Err(Error::CatalogueFaulty {
                    name,
                    faults: vec![access_core::Fault::new(
                        access_core::FaultName::InvalidValue,
                        "$.id",
                        "give the id that the parameter's name ends with",
                    )],
                });
            }
            people.insert(person.id.clone(), (person, version));
        }
        Ok(people)
    }

    fn names_of(&self, people: &BTreeSet<PersonId>) -> Vec<String> {
        people
            .iter()
            .map(|id| format!("{}/people/{id}", self.prefix))
            .collect()
    }

    /// The parameters of these names that exist.
    async fn parameters(&self, names: Vec<String>) -> Result<Vec<Document>, Error> {
        let mut documents = Vec::new();
        // GetParameters takes ten names at most
        // (https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameters.html).
        for names in names.chunks(10) {
            let output = self
                .client
                .get_parameters()
                .set_names(Some(names.to_vec()))
                .send()
                .await
                .map_err(|error| {
                    Error::Catalogue(format!("{}: {}", names.join(", "), chain(error)))
                })?;
            documents.extend(
                output
                    .parameters
                    .unwrap_or_default()
                    .into_iter()
                    .filter_map(Document::of),
            );
        }
        Ok(documents)
    }
}

struct Document {
    name: String,
    text: String,
    version: i64,
}

impl Document {
    fn of(parameter: aws_sdk_ssm::types::Parameter) -> Option<Self> {
        Some(Self {
            name: parameter.name?,
            text: parameter.value?,
            version: parameter.version,
        })
    }

    fn role_name(&self) -> Option<String> {
        serde_json::from_str::<Value>(&self.text)
            .ok()?
            .get("role")?
            .as_str()
            .map(str::to_owned)
    }

    fn read<T>(
        self,
        read: impl FnOnce(&Value, &mut Faults) -> Option<T>,
    ) -> Result<(T, i64), Error> {
        let mut faults = Faults::new();
        let document =
            catalogue::parse(&self.text, &mut faults).and_then(|value| read(&value, &mut faults));
        match document {
            Some(document) if faults.is_empty() => Ok((document, self.version)),
            _ => Err(Error::CatalogueFaulty {
                name: self.name,
                faults: faults.into_vec(),
            }),
        }
    }
}
