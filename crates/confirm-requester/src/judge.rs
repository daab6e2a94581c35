//! Whether those who started an execution are the person that its request names. Pure.

use access_aws::trail::Start;
use access_core::{Person, PersonId, principal};

/// What the starts of an execution say about the requester.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// They are who the request says.
    Requester(Start),
    /// CloudTrail shows nothing yet.
    NotShown,
    /// Somebody else started it; a sentence says who.
    SomebodyElse(String),
}

/// Every start must have been the requester's: the same name and input is answered with the same execution, whoever
/// calls, so one foreign start is enough to doubt.
pub(crate) fn judge(
    requester: &PersonId,
    approved_by: &[PersonId],
    starts: &[Start],
    people: &[Person],
) -> Finding {
    for start in starts {
        let Some(caller) = &start.principal else {
            return Finding::SomebodyElse(format!(
                "ask again yourself: a service of AWS started this request's execution, not {requester}"
            ));
        };
        match principal::person_of(caller, people) {
            Ok(person) if approved_by.contains(&person.id) => {
                return Finding::SomebodyElse(format!(
                    "ask again, and let others approve: {} started this request's execution and approved it",
                    person.id
                ));
            }
            Ok(person) if person.id == *requester => {}
            Ok(person) => {
                return Finding::SomebodyElse(format!(
                    "ask again under your own id: {} started this request's execution, not {requester}",
                    person.id
                ));
            }
            Err(why) => {
                return Finding::SomebodyElse(format!(
                    "ask again as {requester} with a principal that the catalogue lists for them: {why}"
                ));
            }
        }
    }
    starts
        .first()
        .map_or(Finding::NotShown, |start| Finding::Requester(start.clone()))
}

#[cfg(test)]
mod tests {
    use access_core::Faults;
    use serde_json::json;

    use super::*;

    fn id(id: &str) -> PersonId {
        PersonId::new(id).unwrap()
    }

    fn people() -> Vec<Person> {
        let person = |id: &str| {
            let document = json!({
                "id": id, "name": id, "mailbox": format!("{id}@example.com"),
                "principals": [format!("arn:aws:iam::123456789012:user/{id}"), format!("arn:aws:iam::123456789012:role/{id}")]
            });
            Person::read(&document, &mut Faults::new()).unwrap()
        };
        ["riko", "alice", "bob"].map(person).into()
    }

    fn by(principal: &str) -> Start {
        Start {
            event_id: "e".to_owned(),
            principal: Some(principal.to_owned()),
        }
    }

    fn judged(starts: &[Start]) -> Finding {
        judge(&id("riko"), &[id("alice")], starts, &people())
    }

    #[test]
    fn the_requester_is_confirmed_as_user_and_in_any_session() {
        for principal in [
            "arn:aws:iam::123456789012:user/riko",
            "arn:aws:sts::123456789012:assumed-role/riko/laptop",
            "arn:aws:sts::123456789012:assumed-role/riko/alice",
        ] {
            assert_eq!(judged(&[by(principal)]), Finding::Requester(by(principal)));
        }
        let twice = [
            by("arn:aws:iam::123456789012:user/riko"),
            by("arn:aws:sts::123456789012:assumed-role/riko/x1"),
        ];
        assert_eq!(judged(&twice), Finding::Requester(twice[0].clone()));
    }

    #[test]
    fn nothing_shown_is_neither_yes_nor_no() {
        assert_eq!(judged(&[]), Finding::NotShown);
    }

    #[test]
    fn one_foreign_start_is_enough_to_doubt() {
        let riko = by("arn:aws:iam::123456789012:user/riko");
        let service = Start {
            principal: None,
            ..riko.clone()
        };
        for (start, says) in [
            (
                by("arn:aws:iam::123456789012:user/alice"),
                "alice started this request's execution and approved it",
            ),
            (
                by("arn:aws:sts::123456789012:assumed-role/alice/riko"),
                "alice started this request's execution and approved it",
            ),
            (
                by("arn:aws:iam::123456789012:user/bob"),
                "bob started this request's execution, not riko",
            ),
            (
                by("arn:aws:iam::123456789012:user/mallory"),
                "no person of the catalogue lists",
            ),
            (
                by("arn:aws:iam::123456789012:root"),
                "neither an IAM user nor",
            ),
            (service, "a service of AWS"),
        ] {
            for starts in [
                vec![start.clone()],
                vec![riko.clone(), start.clone()],
                vec![start, riko.clone()],
            ] {
                let Finding::SomebodyElse(why) = judged(&starts) else {
                    panic!("{starts:?} was believed");
                };
                assert!(why.contains(says), "{why}");
            }
        }
    }
}
