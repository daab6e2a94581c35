//! What a window left behind: the difference between the facts about a cluster before it and after it.
//!
//! A fact is one row of text whose first word is its kind, such as `membership mallory in rds_superuser by master`.
//! Facts are compared as sets, so that nothing has to be parsed and every change of a row shows as one gone and one new.
//! Ordinary changes in a window show too; they are told, never undone. A few kinds are grave, because with them somebody
//! could come back: [`is_grave`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::plain_text::shorten;

/// More lines than this say less, not more.
const MAX_LINES: usize = 100;

/// Access lists can be long; a hundred lines of this length fit into a message and a table row.
const MAX_LINE_CHARS: usize = 400;

/// Everything that was read at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Names the questions that these are the answers to. Answers to other questions are not compared: after a release
    /// or an upgrade of the server everything would look changed.
    pub questions: String,
    /// About the whole cluster.
    pub cluster: BTreeSet<String>,
    /// About each database that anybody can connect to.
    pub databases: BTreeMap<String, DatabaseFacts>,
}

/// What was read in one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseFacts {
    /// These facts.
    Read(BTreeSet<String>),
    /// Nothing, because of this.
    Unread(WhyUnread),
}

/// Why a database was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyUnread {
    /// Our login has no CONNECT.
    NotAllowed,
    /// A trigger would run with our login's rights.
    LoginTrigger,
    /// There is too much to compare.
    TooManyFacts,
    /// It could not be reached or did not answer in time; the log says more.
    Failed,
}

impl fmt::Display for WhyUnread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotAllowed => "grant CONNECT on it to latchkey_opener and latchkey_closer",
            Self::LoginTrigger => "a login event trigger in it would run as us",
            Self::TooManyFacts => "there is too much to compare",
            Self::Failed => "it could not be reached or did not answer in time",
        })
    }
}

/// A fact and where it holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fact {
    /// `None` for the whole cluster.
    pub database: Option<String>,
    /// The row.
    pub row: String,
}

impl Fact {
    /// The first word of the row.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.row.split(' ').next().unwrap_or_default()
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.database {
            None => formatter.write_str(&self.row),
            Some(database) => write!(formatter, "in {database}: {}", self.row),
        }
    }
}

/// What differs between two moments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drift {
    /// True after and not before.
    pub added: BTreeSet<Fact>,
    /// True before and not after.
    pub removed: BTreeSet<Fact>,
    /// Databases about which nothing can be said.
    pub unread: BTreeMap<String, WhyUnread>,
}

/// Whether facts of this kind let somebody come back, or us not: roles, memberships, settings of roles and databases,
/// event triggers, prepared transactions, and whatever belongs to Latchkey.
#[must_use]
pub fn is_grave(kind: &str) -> bool {
    matches!(
        kind,
        "role" | "membership" | "setting" | "event-trigger" | PREPARED | "manager"
    )
}

/// A prepared transaction that has ended is good news.
const PREPARED: &str = "prepared-transaction";

/// What is true after and was not before, and the reverse.
///
/// A database that was not read at one of the two moments gives no differences, only the note that it was not. Of one
/// that is gone, its own row in the cluster's facts says enough.
#[must_use]
pub fn difference(before: &Facts, after: &Facts) -> Drift {
    let mut drift = Drift::default();
    drift.compare(None, &before.cluster, &after.cluster);
    let nothing = DatabaseFacts::Read(BTreeSet::new());
    for (name, after) in &after.databases {
        match (before.databases.get(name).unwrap_or(&nothing), after) {
            (DatabaseFacts::Read(before), DatabaseFacts::Read(after)) => {
                drift.compare(Some(name), before, after)
            }
            (_, DatabaseFacts::Unread(why)) | (DatabaseFacts::Unread(why), _) => {
                drift.unread.insert(name.clone(), *why);
            }
        }
    }
    drift
}

impl Drift {
    /// Whether nothing differs and everything was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.unread.is_empty()
    }

    fn compare(
        &mut self,
        database: Option<&String>,
        before: &BTreeSet<String>,
        after: &BTreeSet<String>,
    ) {
        let fact = |row: &String| Fact {
            database: database.cloned(),
            row: row.clone(),
        };
        self.added.extend(after.difference(before).map(fact));
        self.removed.extend(before.difference(after).map(fact));
    }
}

/// What a window left behind, in lines for people. They hold names that a hostile role chose: neutralise them where they
/// are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftBehind {
    /// `+` is new and `-` was before; grave ones come first and say so, then
    /// what could not be compared. At most 100, and one that says how many more.
    pub lines: Vec<String>,
    /// How many differences are grave.
    pub n_grave: u64,
}

impl LeftBehind {
    /// Compares what was true before with what is true after.
    #[must_use]
    pub fn between(before: &Facts, after: &Facts) -> Self {
        if before.questions == after.questions {
            Self::of(&difference(before, after))
        } else {
            Self::not_compared("Latchkey or the server was upgraded during the window")
        }
    }

    /// That there is no comparison, and why: silence would say that there was nothing.
    #[must_use]
    pub fn not_compared(why: &str) -> Self {
        Self {
            lines: vec![format!("not compared: {why}")],
            n_grave: 0,
        }
    }

    fn of(drift: &Drift) -> Self {
        let added = drift
            .added
            .iter()
            .map(|fact| ('+', fact, is_grave(fact.kind())));
        let removed = drift
            .removed
            .iter()
            .map(|fact| ('-', fact, is_grave(fact.kind()) && fact.kind() != PREPARED));
        let mut changes: Vec<_> = removed.chain(added).collect();
        // By fact, so that both rows of a thing that was altered stand together.
        changes.sort_by_key(|(_, fact, grave)| (!grave, *fact));
        let n_grave = changes.iter().filter(|(_, _, grave)| *grave).count();

        let (grave, other) = changes.split_at(n_grave);
        let grave = grave
            .iter()
            .map(|(sign, fact, _)| format!("GRAVE {sign} {fact}"));
        let other = other.iter().map(|(sign, fact, _)| format!("{sign} {fact}"));
        let unread = drift.unread.iter();
        let unread = unread.map(|(name, why)| format!("not compared: {name}: {why}"));
        let all: Vec<_> = grave.chain(unread).chain(other).collect();
        let mut lines: Vec<_> = all
            .iter()
            .take(MAX_LINES)
            .map(|line| shorten(line, MAX_LINE_CHARS))
            .collect();
        if all.len() > MAX_LINES {
            lines.push(format!("… and {} more", all.len() - MAX_LINES));
        }
        Self {
            lines,
            n_grave: u64::try_from(n_grave).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts(cluster: &[&str], databases: &[(&str, &[&str])]) -> Facts {
        let rows = |rows: &[&str]| rows.iter().map(|row| (*row).to_owned()).collect();
        Facts {
            questions: "1".to_owned(),
            cluster: rows(cluster),
            databases: databases
                .iter()
                .map(|(name, facts)| ((*name).to_owned(), DatabaseFacts::Read(rows(facts))))
                .collect(),
        }
    }

    #[test]
    fn an_untouched_cluster_leaves_nothing() {
        let same = facts(&["role app"], &[("orders", &["function f()"])]);
        assert!(difference(&same, &same).is_empty());
        assert_eq!(
            LeftBehind::between(&same, &same),
            LeftBehind {
                lines: Vec::new(),
                n_grave: 0
            }
        );
    }

    #[test]
    fn grave_ones_come_first_and_an_altered_thing_stands_together() {
        let before = facts(
            &["role app NOLOGIN", "slot a"],
            &[("orders", &["function f() body 1"])],
        );
        let after = facts(
            &["role app LOGIN", "membership app in admin", "slot b"],
            &[("orders", &["function f() body 2", "event-trigger guard"])],
        );
        let left_behind = LeftBehind::between(&before, &after);
        assert_eq!(
            left_behind.lines,
            [
                "GRAVE + membership app in admin",
                "GRAVE + role app LOGIN",
                "GRAVE - role app NOLOGIN",
                "GRAVE + in orders: event-trigger guard",
                "- slot a",
                "+ slot b",
                "- in orders: function f() body 1",
                "+ in orders: function f() body 2",
            ]
        );
        assert_eq!(left_behind.n_grave, 4);
    }

    #[test]
    fn a_prepared_transaction_is_grave_until_it_ends() {
        let with = facts(&["prepared-transaction 'x'"], &[]);
        let without = facts(&[], &[]);
        assert_eq!(
            LeftBehind::between(&without, &with).lines,
            ["GRAVE + prepared-transaction 'x'"]
        );
        assert_eq!(
            LeftBehind::between(&with, &without).lines,
            ["- prepared-transaction 'x'"]
        );
    }

    #[test]
    fn an_unread_database_is_told_and_not_compared() {
        let read = facts(&[], &[("orders", &["function f()"])]);
        let mut unread = read.clone();
        unread.databases.insert(
            "orders".to_owned(),
            DatabaseFacts::Unread(WhyUnread::Failed),
        );
        for (before, after) in [(&read, &unread), (&unread, &read), (&unread, &unread)] {
            let left_behind = LeftBehind::between(before, after);
            assert_eq!(
                left_behind.lines,
                ["not compared: orders: it could not be reached or did not answer in time"]
            );
            assert_eq!(left_behind.n_grave, 0);
        }
    }

    #[test]
    fn a_new_database_shows_with_its_contents_and_a_dropped_one_without() {
        let with = facts(&["database orders"], &[("orders", &["function f()"])]);
        let without = facts(&[], &[]);
        assert_eq!(
            LeftBehind::between(&without, &with).lines,
            ["+ database orders", "+ in orders: function f()"]
        );
        assert_eq!(
            LeftBehind::between(&with, &without).lines,
            ["- database orders"]
        );
    }

    #[test]
    fn answers_to_other_questions_are_not_compared() {
        let before = facts(&["role app"], &[]);
        let after = Facts {
            questions: "2".to_owned(),
            ..facts(&["ROLE app"], &[])
        };
        assert_eq!(
            LeftBehind::between(&before, &after).lines,
            ["not compared: Latchkey or the server was upgraded during the window"]
        );
    }

    #[test]
    fn a_flood_is_counted_and_hides_nothing_grave() {
        let rows: Vec<String> = (0..500)
            .map(|n| format!("function f{n}() {}", "x".repeat(1000)))
            .collect();
        let mut after = facts(&["role mallory LOGIN"], &[]);
        after.cluster.extend(rows);
        let left_behind = LeftBehind::between(&facts(&[], &[]), &after);
        assert_eq!(left_behind.lines.len(), MAX_LINES + 1);
        assert_eq!(left_behind.lines[0], "GRAVE + role mallory LOGIN");
        assert_eq!(left_behind.lines[MAX_LINES], "… and 401 more");
        assert!(
            left_behind
                .lines
                .iter()
                .all(|line| line.chars().count() <= MAX_LINE_CHARS)
        );
    }

    fn some_facts() -> impl Strategy<Value = Facts> {
        let rows = || prop::collection::btree_set("(role|slot|function|setting of) [a-d]", 0..6);
        let database = prop_oneof![
            4 => rows().prop_map(DatabaseFacts::Read),
            1 => Just(DatabaseFacts::Unread(WhyUnread::NotAllowed)),
        ];
        (rows(), prop::collection::btree_map("[x-z]", database, 0..3)).prop_map(
            |(cluster, databases)| Facts {
                questions: "1".to_owned(),
                cluster,
                databases,
            },
        )
    }

    proptest! {
        #[test]
        fn the_difference_leads_from_before_to_after(before in some_facts(), after in some_facts()) {
            let drift = difference(&before, &after);
            let patched = |database: Option<&String>, rows: &BTreeSet<String>| -> BTreeSet<String> {
                let of = |facts: &BTreeSet<Fact>| -> BTreeSet<String> {
                    facts.iter().filter(|fact| fact.database.as_ref() == database).map(|fact| fact.row.clone()).collect()
                };
                let kept: BTreeSet<String> = rows.difference(&of(&drift.removed)).cloned().collect();
                kept.union(&of(&drift.added)).cloned().collect()
            };
            prop_assert_eq!(&patched(None, &before.cluster), &after.cluster);
            for (name, facts) in &after.databases {
                let DatabaseFacts::Read(after) = facts else {
                    prop_assert!(drift.unread.contains_key(name));
                    continue;
                };
                match before.databases.get(name) {
                    Some(DatabaseFacts::Read(before)) => prop_assert_eq!(&patched(Some(name), before), after),
                    Some(DatabaseFacts::Unread(_)) => prop_assert!(drift.unread.contains_key(name)),
                    None => prop_assert_eq!(&patched(Some(name), &BTreeSet::new()), after),
                }
            }
        }

        #[test]
        fn the_reverse_difference_swaps_new_and_gone(before in some_facts(), after in some_facts()) {
            let (there, back) = (difference(&before, &after), difference(&after, &before));
            let shared = |fact: &&Fact| fact.database.as_ref().is_none_or(|name| {
                before.databases.contains_key(name) && after.databases.contains_key(name)
            });
            prop_assert!(there.added.iter().filter(shared).eq(back.removed.iter().filter(shared)));
            prop_assert!(there.removed.iter().filter(shared).eq(back.added.iter().filter(shared)));
        }

        #[test]
        fn facts_are_written_and_read_alike(facts in some_facts()) {
            let written = serde_json::to_string(&facts).unwrap();
            prop_assert_eq!(serde_json::from_str::<Facts>(&written).unwrap(), facts);
        }
    }
}
