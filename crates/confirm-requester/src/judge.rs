//! Whether those who started an execution are the person that its request names. Pure.

use access_aws::trail::Start;
use access_core::{Nobody, Person, PersonId, Refusal, principal};

/// What the starts of an execution say about the requester.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// They are who the request says.
    Requester(Start),
    /// CloudTrail shows nothing yet.
    NotShown,
    /// Somebody else started it.
    SomebodyElse(Refusal),
}

/// Every start must have been the requester's: the same name and input is answered with the same execution, whoever
/// calls, so one foreign start is enough to doubt.
pub(crate) fn judge(
    requester: &PersonId,
    approved_by: &[PersonId],
    starts: &[Start],
    people: &[Person],
) -> Finding {
    let asked_by = || requester.clone();
    for start in starts {
        let Some(caller) = &start.principal else {
            return Finding::SomebodyElse(Refusal::StartedByService {
                requester: asked_by(),
            });
        };
        let somebody_else = match principal::person_of(caller, people) {
            Ok(person) if approved_by.contains(&person.id) => Refusal::StartedByApprover {
                person: person.id.clone(),
            },
            Ok(person) if person.id == *requester => continue,
            Ok(person) => Refusal::StartedBySomebodyElse {
                person: person.id.clone(),
                requester: asked_by(),
            },
            Err(Nobody::NeitherUserNorRole(caller) | Nobody::Unknown(caller)) => {
                Refusal::StartedByNobody {
                    caller,
                    requester: asked_by(),
                }
            }
            Err(Nobody::Ambiguous { caller, people }) => Refusal::StartedByAmbiguous {
                caller,
                people: people.into_iter().collect(),
                requester: asked_by(),
            },
        };
        return Finding::SomebodyElse(somebody_else);
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
        let arn = |rest: &str| format!("arn:aws:iam::123456789012:{rest}");
        let approver = Refusal::StartedByApprover {
            person: id("alice"),
        };
        let nobody = |rest: &str| Refusal::StartedByNobody {
            caller: arn(rest),
            requester: id("riko"),
        };
        let alices_session = "arn:aws:sts::123456789012:assumed-role/alice/riko";
        for (start, refusal) in [
            (by(&arn("user/alice")), approver.clone()),
            (by(alices_session), approver),
            (
                by(&arn("user/bob")),
                Refusal::StartedBySomebodyElse {
                    person: id("bob"),
                    requester: id("riko"),
                },
            ),
            (by(&arn("user/mallory")), nobody("user/mallory")),
            (by(&arn("root")), nobody("root")),
            (
                service,
                Refusal::StartedByService {
                    requester: id("riko"),
                },
            ),
        ] {
            for starts in [
                vec![start.clone()],
                vec![riko.clone(), start.clone()],
                vec![start, riko.clone()],
            ] {
                let Finding::SomebodyElse(why) = judged(&starts) else {
                    panic!("{starts:?} was believed");
                };
                assert_eq!(why, refusal);
            }
        }
    }
}
