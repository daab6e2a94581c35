//! The template: names, rights, secrets, and its agreement with the crates and the state machines.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::repository::{
    FUNCTIONS, LOG_IN, STATE_MACHINES, files, read, root, state_machine, template, texts,
    visit_objects,
};

/// Statements whose actions have no resource type at AWS, so that no ARN can be named:
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/reference.html>
const WITHOUT_RESOURCE: [&str; 7] = [
    "XRayHasNoResourceTypes",
    "SendTaskSuccessHasNoResourceTypes",
    "LogDeliveryHasNoResourceTypes",
    "LogQueryResultsHaveNoResourceTypes",
    "SubscriptionsHaveNoResourceTypes",
    "ListSecretsHasNoResourceTypes",
    "LookupEventsHasNoResourceTypes",
];

fn resources_of_type(template: &Value, kind: &str) -> Vec<(String, Value)> {
    template["Resources"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, resource)| resource["Type"] == kind)
        .map(|(name, resource)| (name.clone(), resource.clone()))
        .collect()
}

/// `compute-wait` → `ComputeWaitFunction`.
fn logical_id(function: &str) -> String {
    let words = function
        .split('-')
        .map(|word| word[..1].to_uppercase() + &word[1..]);
    words.collect::<String>() + "Function"
}

/// Every statement of every IAM policy (not of key and topic policies), with the resource it is in.
fn iam_statements(template: &Value) -> Vec<(String, Value)> {
    let mut statements = Vec::new();
    for kind in [
        "AWS::IAM::Role",
        "AWS::IAM::Policy",
        "AWS::IAM::ManagedPolicy",
    ] {
        for (name, mut resource) in resources_of_type(template, kind) {
            // Who may take on the role is another question.
            resource["Properties"]
                .as_object_mut()
                .unwrap()
                .remove("AssumeRolePolicyDocument");
            visit_objects(&resource, &mut |object| {
                if object.contains_key("Effect") {
                    statements.push((name.clone(), Value::Object(object.clone())));
                }
            });
        }
    }
    statements
}

#[test]
fn each_function_is_a_crate() {
    let template = template();
    let functions = resources_of_type(&template, "AWS::Serverless::Function");
    let named: BTreeSet<&str> = functions.iter().map(|(name, _)| name.as_str()).collect();
    let expected: Vec<String> = FUNCTIONS
        .iter()
        .map(|function| logical_id(function))
        .collect();
    assert_eq!(named, expected.iter().map(String::as_str).collect());

    for function in FUNCTIONS {
        let id = logical_id(function);
        let resource = &template["Resources"][&id];
        assert_eq!(resource["Metadata"]["BuildMethod"], "rust-cargolambda");
        assert_eq!(resource["Metadata"]["BuildProperties"]["Binary"], function);
        assert!(
            root()
                .join("crates")
                .join(function)
                .join("src/main.rs")
                .exists(),
            "no crate {function}"
        );
    }
}

#[test]
fn each_substitution_is_used_and_each_use_is_substituted() {
    let template = template();
    let machines = resources_of_type(&template, "AWS::StepFunctions::StateMachine");
    assert_eq!(machines.len(), STATE_MACHINES.len());
    for (id, file) in STATE_MACHINES {
        let properties = &template["Resources"][id]["Properties"];
        assert_eq!(properties["DefinitionS3Location"], file);
        let given = properties["DefinitionSubstitutions"].as_object().unwrap();
        let text = state_machine(file).to_string();
        let used: BTreeSet<&str> = text
            .split("${")
            .skip(1)
            .map(|rest| rest.split_once('}').unwrap().0)
            .collect();
        assert_eq!(
            given.keys().map(String::as_str).collect::<BTreeSet<_>>(),
            used
        );
        for (name, value) in given {
            if let Some(function) = name.strip_suffix("Arn") {
                assert_eq!(*value, json!({"Fn::GetAtt": [function, "Arn"]}), "{name}");
            }
        }
    }
}

#[test]
fn each_state_machine_may_call_exactly_the_functions_it_names() {
    let template = template();
    for (id, file) in STATE_MACHINES {
        let text = state_machine(file).to_string();
        let named: BTreeSet<&str> = text
            .split("${")
            .skip(1)
            .filter_map(|rest| rest.split_once("Arn}"))
            .map(|(function, _)| function)
            .filter(|function| function.ends_with("Function"))
            .collect();
        let role = template["Resources"][id]["Properties"]["RoleArn"]["Fn::GetAtt"][0]
            .as_str()
            .unwrap()
            .to_owned();
        let statements = iam_statements(&template);
        let callable: BTreeSet<&str> = statements
            .iter()
            .filter(|(name, statement)| {
                *name == role && statement["Action"] == "lambda:InvokeFunction"
            })
            .flat_map(|(_, statement)| statement["Resource"].as_array().unwrap())
            .map(|resource| resource["Fn::GetAtt"][0].as_str().unwrap())
            .collect();
        assert_eq!(callable, named, "{id}");
    }
}

#[test]
fn each_function_is_given_the_environment_that_it_reads() {
    let template = template();
    for function in FUNCTIONS {
        let properties = &template["Resources"][logical_id(function)]["Properties"];
        let given: BTreeSet<String> = properties["Environment"]["Variables"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        let folder = format!("crates/{function}/src");
        let mut read_here = BTreeSet::new();
        for path in files().iter().filter(|path| path.starts_with(&folder)) {
            let text = read(path.to_str().unwrap());
            for rest in text.split("\"LATCHKEY_").skip(1) {
                read_here.insert(format!("LATCHKEY_{}", rest.split_once('"').unwrap().0));
            }
        }
        assert_eq!(
            given, read_here,
            "environment of {function}: in the template, and in the code"
        );
    }
}

#[test]
fn each_function_has_a_role_and_a_log_group_of_its_own() {
    let template = template();
    let mut roles = BTreeSet::new();
    for function in FUNCTIONS {
        let properties = &template["Resources"][logical_id(function)]["Properties"];
        let role = properties["Role"]["Fn::GetAtt"][0]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(roles.insert(role), "{function} shares its role");
        let logs = properties["LoggingConfig"]["LogGroup"]["Ref"]
            .as_str()
            .unwrap();
        assert_eq!(properties["LoggingConfig"]["LogFormat"], "JSON");
        assert!(logs.starts_with(logical_id(function).strip_suffix("Function").unwrap()));
    }
    for (name, logs) in resources_of_type(&template, "AWS::Logs::LogGroup") {
        assert!(
            logs["Properties"]["RetentionInDays"].is_object(),
            "{name} keeps its lines for ever"
        );
    }
}

#[test]
fn only_the_functions_that_log_in_to_postgresql_are_in_the_vpc() {
    let template = template();
    for function in FUNCTIONS {
        let in_vpc = template["Resources"][logical_id(function)]["Properties"]
            .get("VpcConfig")
            .is_some();
        assert_eq!(in_vpc, LOG_IN.contains(&function), "{function}");
    }
}

#[test]
fn rights_are_verbs_on_named_resources() {
    for (name, statement) in iam_statements(&template()) {
        let sid = statement["Sid"].as_str().unwrap_or_default();
        for action in texts(&statement["Action"]) {
            assert!(!action.contains('*'), "{name}: name the verbs of {action}");
        }
        let everything = texts(&statement["Resource"]).contains(&"*");
        let denied = statement["Effect"] == "Deny";
        assert!(
            !everything || denied || WITHOUT_RESOURCE.contains(&sid),
            "{name}: name the resource of {sid:?}"
        );
    }
}

/// The index that a statement is about, if it is one. It holds one kind of row, so no rows are named.
fn index_of(statement: &Value) -> Option<&str> {
    let resource = statement["Resource"]["Fn::Sub"].as_str()?;
    Some(resource.split_once("/index/")?.1)
}

#[test]
fn rights_on_the_table_name_the_rows() {
    for (name, statement) in iam_statements(&template()) {
        if texts(&statement["Action"])
            .iter()
            .any(|action| action.starts_with("dynamodb:"))
            && index_of(&statement).is_none()
        {
            let rows = &statement["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"];
            assert!(!texts(rows).is_empty(), "{name}: name the rows");
        }
    }
}

/// What each method of `access_aws::table::Table` does in the table.
const RIGHTS_OF_METHODS: [(&str, &[&str]); 43] = [
    (
        "create_request",
        &[
            "PutItem record#*",
            "PutItem request#*",
            "PutItem requests-of#*",
        ],
    ),
    ("requests_of", &["Query requests-of#*"]),
    ("create_dry_run", &["PutItem dry-run#*"]),
    (
        "create_asked_dry_run",
        &["PutItem dry-run#*", "UpdateItem asked#*"],
    ),
    ("dry_run", &["GetItem dry-run#*"]),
    ("cancel", &["PutItem record#*", "UpdateItem request#*"]),
    ("note_ending", &["PutItem record#*", "UpdateItem request#*"]),
    (
        "create_asked_request",
        &[
            "PutItem record#*",
            "PutItem request#*",
            "PutItem requests-of#*",
            "UpdateItem asked#*",
        ],
    ),
    ("record_asked", &["PutItem record#*", "PutItem asked#*"]),
    ("asked", &["GetItem asked#*"]),
    (
        "record_confirmation",
        &["PutItem record#*", "PutItem confirmed#*"],
    ),
    ("confirmation", &["GetItem confirmed#*"]),
    ("request", &["GetItem request#*"]),
    ("park_token", &["PutItem token#*"]),
    ("task_token", &["GetItem token#*"]),
    (
        "record_vote",
        &["PutItem record#*", "PutItem vote#*", "UpdateItem request#*"],
    ),
    ("votes", &["Query vote#*"]),
    (
        "record_decision",
        &["PutItem record#*", "UpdateItem request#*"],
    ),
    ("pin_server", &["UpdateItem request#*"]),
    ("pin_aws_role", &["UpdateItem request#*"]),
    ("note_revoked", &["UpdateItem request#*"]),
    (
        "record_refusal",
        &["PutItem record#*", "UpdateItem request#*"],
    ),
    ("n_armed", &["GetItem armed#*"]),
    (
        "arm",
        &[
            "PutItem record#*",
            "PutItem windows#*",
            "PutItem review#*",
            "UpdateItem request#*",
            "UpdateItem armed#*",
        ],
    ),
    ("missing_review", &["GetItem review#*"]),
    (
        "record_review",
        &[
            "PutItem record#*",
            "DeleteItem review#*",
            "UpdateItem request#*",
        ],
    ),
    (
        "record_broken_glass",
        &["PutItem record#*", "PutItem vote#*", "UpdateItem request#*"],
    ),
    (
        "adopt_window",
        &[
            "PutItem record#*",
            "PutItem windows#*",
            "UpdateItem armed#*",
        ],
    ),
    (
        "remove_adopted",
        &["PutItem record#*", "DeleteItem windows#*"],
    ),
    (
        "end_early",
        &[
            "PutItem record#*",
            "GetItem windows#*",
            "UpdateItem windows#*",
        ],
    ),
    (
        "mark_opened",
        &[
            "PutItem record#*",
            "GetItem windows#*",
            "UpdateItem windows#*",
        ],
    ),
    ("open_windows", &["Query open-windows"]),
    ("windows", &["Query windows#*"]),
    ("announce_closing", &["UpdateItem windows#*"]),
    ("withdraw_closing", &["UpdateItem windows#*"]),
    (
        "record_closing",
        &[
            "PutItem record#*",
            "DeleteItem windows#*",
            "UpdateItem request#*",
        ],
    ),
    ("was_sent", &["GetItem request#*"]),
    ("record_sent", &["PutItem record#*", "PutItem request#*"]),
    ("keep_facts", &["UpdateItem request#*"]),
    ("has_facts", &["GetItem request#*"]),
    ("facts", &["GetItem request#*"]),
    ("record", &["PutItem record#*"]),
    ("record_unstored", &["PutItem record#*"]),
];

/// The methods that `text` calls on a field or variable named `table`.
fn table_methods(text: &str) -> BTreeSet<String> {
    let text: String = text.split_whitespace().collect();
    let calls = text
        .split("table.")
        .skip(1)
        .filter_map(|rest| rest.split_once('('));
    calls
        .map(|(method, _)| method.to_owned())
        .filter(|method| {
            method
                .chars()
                .all(|letter| letter.is_ascii_lowercase() || letter == '_')
        })
        .collect()
}

#[test]
fn each_function_has_the_rights_on_the_table_that_it_uses() {
    let table = read("crates/access-aws/src/table.rs");
    let methods: BTreeSet<&str> = table
        .split("pub async fn ")
        .skip(1)
        .map(|rest| rest.split_once('(').unwrap().0)
        .collect();
    let listed: BTreeSet<&str> = RIGHTS_OF_METHODS
        .iter()
        .map(|(method, _)| *method)
        .collect();
    assert_eq!(
        methods, listed,
        "say in this test what each method of the table does"
    );

    let statements = iam_statements(&template());
    for function in FUNCTIONS {
        let mut used = BTreeSet::new();
        let mut sources: Vec<String> = files()
            .iter()
            .filter(|path| path.starts_with(format!("crates/{function}/src")))
            .map(|path| read(path.to_str().unwrap()))
            .collect();
        // What these do in the table, they do for whoever uses them.
        for (named, file) in [
            ("WindowsInTable", "crates/database-shell/src/converging.rs"),
            ("OwnWindow", "crates/access-aws/src/assumable.rs"),
            ("Admission", "crates/window-shell/src/admission.rs"),
            (
                "window_shell::to_close",
                "crates/window-shell/src/ending.rs",
            ),
        ] {
            if sources.iter().any(|text| text.contains(named)) {
                sources.push(read(file));
            }
        }
        for text in sources {
            for method in table_methods(&text) {
                let rights = RIGHTS_OF_METHODS
                    .iter()
                    .find(|(listed, _)| *listed == method);
                used.extend(
                    rights
                        .map_or(&[][..], |(_, rights)| rights)
                        .iter()
                        .map(|right| (*right).to_owned()),
                );
            }
        }
        let role = logical_id(function).replace("Function", "Role");
        let mut given = BTreeSet::new();
        for (_, statement) in statements.iter().filter(|(name, _)| *name == role) {
            for action in texts(&statement["Action"])
                .iter()
                .filter_map(|action| action.strip_prefix("dynamodb:"))
            {
                let rows =
                    &statement["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"];
                given.extend(texts(rows).iter().map(|row| format!("{action} {row}")));
                given.extend(index_of(statement).map(|index| format!("{action} {index}")));
            }
        }
        assert_eq!(
            given, used,
            "rights of {function} on the table: in the template, and in the code"
        );
    }
}

/// Who has which right: a few rights decide everything.
#[test]
fn the_deciding_rights_have_one_holder() {
    let mut holders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, statement) in iam_statements(&template()) {
        if statement["Effect"] == "Allow" {
            for action in texts(&statement["Action"]) {
                let rows =
                    &statement["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"];
                holders
                    .entry(format!("{action} {}", statement["Resource"]))
                    .or_default()
                    .insert(name.clone());
                for row in texts(rows) {
                    holders
                        .entry(format!("{action} {row}"))
                        .or_default()
                        .insert(name.clone());
                }
            }
        }
    }
    let arn = |id: &str| json!({"Fn::GetAtt": [id, "Arn"]}).to_string();
    let start_closing = format!("states:StartExecution {}", json!({"Ref": "CloseWindow"}));
    let window_secrets = |verb: &str| {
        let named = holders.keys().find(|right| {
            right.starts_with(&format!("secretsmanager:{verb} ")) && right.contains("/windows/*")
        });
        named.unwrap().clone()
    };
    let roles_elsewhere = |holder: &str| {
        let named = holders
            .keys()
            .find(|right| right.starts_with("sts:AssumeRole") && right.contains(holder));
        named.unwrap().clone()
    };
    let policies = |verb: &str, whose: &str| {
        let named = holders
            .keys()
            .find(|right| right.starts_with(&format!("iam:{verb} ")) && right.contains(whose));
        named.unwrap().clone()
    };
    let secrets = |holder: &str| {
        let named = holders.keys().find(|right| {
            right.starts_with("secretsmanager:GetSecretValue") && right.contains(holder)
        });
        named.unwrap().clone()
    };
    for (right, several) in [
        (
            start_closing,
            &[
                "ApprovalRole",
                "ExecutionEndedRole",
                "OperatorPolicy",
                "ReconcileRole",
                "WindowEndRole",
            ][..],
        ),
        (
            secrets("CloserSecretPattern"),
            &["DisableLoginRole", "ReconcileRole"],
        ),
        (
            "dynamodb:PutItem windows#*".to_owned(),
            &["EnableLoginRole", "GrantPolicyRole", "ReconcileRole"],
        ),
        (
            "dynamodb:DeleteItem windows#*".to_owned(),
            &["DisableLoginRole", "ReconcileRole", "RevokePolicyRole"],
        ),
        (
            "dynamodb:GetItem dry-run#*".to_owned(),
            &[
                "EnableLoginRole",
                "FrontDoorRole",
                "GrantPolicyRole",
                "NotifyRole",
            ],
        ),
        (
            format!("iam:PassRole {}", arn("NoticeRole")),
            &["ApprovalRole", "NotifyRole"],
        ),
        (
            "dynamodb:PutItem review#*".to_owned(),
            &["EnableLoginRole", "GrantPolicyRole"],
        ),
        (roles_elsewhere("GranterRolePattern"), &["GrantPolicyRole"]),
        (roles_elsewhere("RevokerRolePattern"), &["RevokePolicyRole"]),
        (
            policies("PutUserPolicy", "GranteePattern"),
            &["GrantPolicyRole"],
        ),
        (
            policies("PutRolePolicy", "GranteePattern"),
            &["GrantPolicyRole"],
        ),
        (
            policies("DeleteUserPolicy", "GranteePattern"),
            &["GrantPolicyRole", "RevokePolicyRole"],
        ),
        (
            policies("PutRolePolicy", "PrivilegedRolePattern"),
            &["GrantPolicyRole", "RevokePolicyRole"],
        ),
        (
            policies("DeleteRolePolicy", "PrivilegedRolePattern"),
            &["RevokePolicyRole"],
        ),
        (
            format!("kms:VerifyMac {}", arn("VoteKey")),
            &["EnableLoginVerifiesVotes", "GrantPolicyVerifiesVotes"],
        ),
        (
            format!("iam:PassRole {}", arn("WindowEndRole")),
            &["EnableLoginRole", "GrantPolicyRole"],
        ),
        (secrets("OpenerSecretPattern"), &["EnableLoginRole"]),
        (
            roles_elsewhere("CloserRolePattern"),
            &["DisableLoginRole", "ReconcileRole"],
        ),
        (roles_elsewhere("OpenerRolePattern"), &["EnableLoginRole"]),
        (window_secrets("CreateSecret"), &["EnableLoginRole"]),
        (window_secrets("PutResourcePolicy"), &["EnableLoginRole"]),
        (window_secrets("PutSecretValue"), &["EnableLoginRole"]),
        (window_secrets("GetSecretValue"), &["EnableLoginRole"]),
        (
            window_secrets("DeleteSecret"),
            &["DisableLoginRole", "ReconcileRole"],
        ),
        (
            format!("sqs:SendMessage {}", arn("DeadLetters")),
            &["NoticeCallsNotify", "NotifyRole", "WindowEndRole"],
        ),
    ] {
        let several = several.iter().map(|holder| (*holder).to_owned()).collect();
        assert_eq!(holders.get(&right), Some(&several), "{right}");
    }
    for (right, holder) in [
        ("states:SendTaskSuccess \"*\"".to_owned(), "ApprovalRole"),
        (
            format!("kms:GenerateMac {}", arn("LinkKey")),
            "NotifyMakesLinks",
        ),
        (
            format!("kms:VerifyMac {}", arn("LinkKey")),
            "ApprovalVerifiesLinksAndSealsVotes",
        ),
        (
            format!("kms:GenerateMac {}", arn("VoteKey")),
            "ApprovalVerifiesLinksAndSealsVotes",
        ),
        ("sns:Publish {\"Ref\":\"Topic\"}".to_owned(), "NotifyRole"),
        (
            "sns:Publish {\"Ref\":\"ChatTopic\"}".to_owned(),
            "NotifyRole",
        ),
        (
            "sns:Subscribe {\"Ref\":\"Topic\"}".to_owned(),
            "SubscriberSubscribes",
        ),
        ("dynamodb:PutItem vote#*".to_owned(), "ApprovalRole"),
        ("dynamodb:PutItem asked#*".to_owned(), "FrontDoorRole"),
        ("dynamodb:PutItem dry-run#*".to_owned(), "ComputeWaitRole"),
        (
            "dynamodb:PutItem requests-of#*".to_owned(),
            "ComputeWaitRole",
        ),
        ("dynamodb:Query requests-of#*".to_owned(), "FrontDoorRole"),
        ("dynamodb:UpdateItem asked#*".to_owned(), "ComputeWaitRole"),
        ("dynamodb:DeleteItem review#*".to_owned(), "ApprovalRole"),
        (
            "dynamodb:PutItem confirmed#*".to_owned(),
            "ConfirmRequesterRole",
        ),
        (
            "cloudtrail:LookupEvents \"*\"".to_owned(),
            "ConfirmRequesterRole",
        ),
        ("dynamodb:PutItem token#*".to_owned(), "ApprovalRole"),
        ("dynamodb:GetItem token#*".to_owned(), "ApprovalRole"),
    ] {
        assert_eq!(
            holders.get(&right),
            Some(&BTreeSet::from([holder.to_owned()])),
            "{right}"
        );
    }
    let writes_votes = holders.keys().any(|right| {
        right.ends_with(" vote#*") && (right.contains("Update") || right.contains("Delete"))
    });
    assert!(!writes_votes, "a vote is written once");
    for (right, holders) in holders
        .iter()
        .filter(|(right, _)| right.ends_with(" record#*"))
    {
        match right.as_str() {
            "dynamodb:PutItem record#*" => {
                assert_eq!(holders.len(), FUNCTIONS.len(), "{holders:?}")
            }
            "dynamodb:Query record#*" => {
                assert_eq!(*holders, BTreeSet::from(["AuditorPolicy".to_owned()]))
            }
            _ => panic!("the record is only added to and read: {right}"),
        }
    }
    let fails_tasks = holders
        .keys()
        .any(|right| right.contains("SendTaskFailure"));
    assert!(!fails_tasks, "nobody needs to fail the waiting task");
}

/// Links prove themselves; everything else that calls the API must be signed, and people may call just these.
#[test]
fn what_is_no_page_takes_a_signature() {
    let template = template();
    let mut signed = BTreeSet::new();
    for (name, route) in resources_of_type(&template, "AWS::ApiGatewayV2::Route") {
        let route = &route["Properties"];
        let key = route["RouteKey"].as_str().unwrap();
        let is_page = key.ends_with("/decide/{link}") || key.ends_with("/end/{link}");
        let authorised = route["AuthorizationType"] == "AWS_IAM";
        assert_eq!(authorised, !is_page, "{name}");
        if authorised {
            signed.insert(key.replace(' ', "").replace("{id}", "*"));
        }
    }
    let mut allowed = BTreeSet::new();
    for (name, statement) in iam_statements(&template) {
        if texts(&statement["Action"]).contains(&"execute-api:Invoke") {
            assert!(name.ends_with("Policy"), "{name} calls the API");
            let mut resources = Vec::new();
            visit_objects(&statement["Resource"], &mut |object| {
                resources.extend(object["Fn::Sub"].as_str().map(str::to_owned));
            });
            allowed.extend(
                resources
                    .iter()
                    .map(|arn| arn.split_once("${CallbackApi}/*/").unwrap().1.to_owned()),
            );
        }
    }
    assert_eq!(signed, allowed);
}

/// A notice by the name of a window's end would be taken for the end that stands already.
#[test]
fn notify_makes_no_schedule_that_could_stand_for_the_end_of_a_window() {
    let statements = iam_statements(&template());
    let makes = |role: &str| {
        let (_, statement) = statements
            .iter()
            .find(|(name, statement)| {
                name == role && statement["Action"] == "scheduler:CreateSchedule"
            })
            .unwrap();
        let arn = statement["Resource"]["Fn::Sub"].as_str().unwrap();
        arn.rsplit('/').next().unwrap().to_owned()
    };
    assert_eq!(makes("NotifyRole"), "notice-*");
    assert_eq!(makes("ApprovalRole"), "notice-*");
    assert_eq!(makes("EnableLoginRole"), "*");
    assert!(read("crates/access-aws/src/schedule.rs").contains("format!(\"notice-{request_id}-"));
}

#[test]
fn a_notice_that_fails_is_tried_again_and_kept() {
    let template = template();
    let later = &template["Resources"]["NotifyLater"]["Properties"];
    assert_eq!(later["FunctionName"], json!({"Ref": "NotifyFunction"}));
    assert_eq!(later["MaximumRetryAttempts"], 2);
    assert_eq!(
        later["DestinationConfig"]["OnFailure"]["Destination"],
        json!({"Fn::GetAtt": ["DeadLetters", "Arn"]})
    );
}

#[test]
fn roles_are_passed_to_scheduler_only() {
    let statements = iam_statements(&template());
    let passes: Vec<_> = statements
        .iter()
        .filter(|(_, statement)| texts(&statement["Action"]).contains(&"iam:PassRole"))
        .collect();
    assert_eq!(passes.len(), 4);
    for (name, statement) in passes {
        assert_eq!(
            statement["Condition"]["StringEquals"]["iam:PassedToService"],
            "scheduler.amazonaws.com",
            "{name}"
        );
    }
}

#[test]
fn only_notify_publishes_to_people_and_only_the_deployment_subscribes_them() {
    let template = template();
    let policy = &template["Resources"]["TopicPolicy"]["Properties"];
    assert_eq!(policy["Topics"], json!([{"Ref": "Topic"}]));
    let statements = policy["PolicyDocument"]["Statement"].as_array().unwrap();
    for (action, role) in [
        ("sns:Publish", "NotifyRole"),
        ("sns:Subscribe", "SubscriberRole"),
    ] {
        let denied = statements
            .iter()
            .find(|statement| statement["Action"] == action)
            .unwrap();
        assert_eq!(denied["Effect"], "Deny", "{action}");
        assert_eq!(denied["Principal"], "*", "{action}");
        assert_eq!(
            denied["Condition"],
            json!({"ArnNotEquals": {"aws:PrincipalArn": {"Fn::GetAtt": [role, "Arn"]}}}),
            "{action}"
        );
    }
}

#[test]
fn roles_for_services_are_taken_only_for_this_account() {
    let template = template();
    for (name, role) in resources_of_type(&template, "AWS::IAM::Role") {
        let statement = &role["Properties"]["AssumeRolePolicyDocument"]["Statement"][0];
        let Some(service) = statement["Principal"]["Service"].as_str() else {
            let people =
                json!({"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}});
            assert_eq!(statement["Principal"], people, "{name}");
            continue;
        };
        if service != "lambda.amazonaws.com" {
            assert_eq!(
                statement["Condition"]["StringEquals"]["aws:SourceAccount"],
                json!({"Ref": "AWS::AccountId"}),
                "{name}: {service} could be told by another account to take it"
            );
        }
    }
}

#[test]
fn the_end_of_every_execution_without_success_starts_a_closing() {
    let template = template();
    let rule = &template["Resources"]["ExecutionEnded"]["Properties"];
    let detail = &rule["EventPattern"]["detail"];
    assert_eq!(detail["stateMachineArn"], json!([{"Ref": "StateMachine"}]));
    assert_eq!(texts(&detail["status"]), ["ABORTED", "FAILED", "TIMED_OUT"]);
    let target = &rule["Targets"][0];
    assert_eq!(target["Arn"], json!({"Ref": "CloseWindow"}));
    assert_eq!(
        target["DeadLetterConfig"]["Arn"],
        json!({"Fn::GetAtt": ["DeadLetters", "Arn"]})
    );
    assert_eq!(target["RetryPolicy"]["MaximumEventAgeInSeconds"], 86_400);
}

#[test]
fn the_index_is_the_one_that_is_read() {
    let template = template();
    let index = &template["Resources"]["Table"]["Properties"]["GlobalSecondaryIndexes"][0];
    let name = index["IndexName"].as_str().unwrap();
    let table = read("crates/access-aws/src/table.rs");
    assert!(table.contains(&format!("OPEN_WINDOWS_INDEX: &str = \"{name}\"")));
    let keys: Vec<_> = index["KeySchema"].as_array().unwrap().iter().collect();
    assert_eq!(keys[0]["AttributeName"], "kind");
    assert_eq!(index["Projection"]["ProjectionType"], "KEYS_ONLY");
}

/// The metrics that a crate writes, by their names.
fn metrics_of(function: &str) -> BTreeSet<String> {
    let file = match function {
        "revoke-policy" => "collecting",
        "window-shell" => "admission",
        _ => "handler",
    };
    let text = read(&format!("crates/{function}/src/{file}.rs"));
    let (_, from) = text.split_once("lambda_shell::metrics(").unwrap();
    let (call, _) = from.split_once("timestamp_millis").unwrap();
    // notify names them where it counts.
    let counted = text.split("self.measure(&[").skip(1);
    let calls = counted.map(|rest| rest.split_once(']').unwrap().0);
    std::iter::once(call)
        .chain(calls)
        .flat_map(|call| call.split('"').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

fn our_metrics() -> BTreeSet<String> {
    [
        "reconcile",
        "disable-login",
        "notify",
        "confirm-requester",
        "window-shell",
        "revoke-policy",
    ]
    .into_iter()
    .flat_map(metrics_of)
    .collect()
}

#[test]
fn alarms_watch_metrics_that_exist_and_page_operators() {
    let template = template();
    let written = our_metrics();
    let mut watched = BTreeSet::new();
    let alarms = resources_of_type(&template, "AWS::CloudWatch::Alarm");
    for (name, alarm) in &alarms {
        let properties = &alarm["Properties"];
        // What is only observed is shown and pages nobody.
        let pages = match properties["MetricName"].as_str() {
            Some("AccessOutsideWindowsObserved") => Value::Null,
            _ => json!([{"Ref": "OperatorTopic"}]),
        };
        assert_eq!(properties["AlarmActions"], pages, "{name}");
        if properties["Namespace"] == "Latchkey" {
            let metric = properties["MetricName"].as_str().unwrap();
            assert!(written.contains(metric), "{name}: nothing writes {metric}");
            assert_eq!(
                properties["Dimensions"],
                json!([{"Name": "Deployment", "Value": {"Ref": "AWS::StackName"}}]),
                "{name}"
            );
            watched.insert(metric.to_owned());
        }
    }
    assert_eq!(written, watched);
    let silent = &template["Resources"]["ReconcileSilentAlarm"]["Properties"];
    assert_eq!(silent["MetricName"], "ReconcileRounds");
    assert_eq!(silent["TreatMissingData"], "breaching");
}

#[test]
fn what_needs_a_person_has_an_alarm() {
    let template = template();
    let alarms = resources_of_type(&template, "AWS::CloudWatch::Alarm");
    let needed = [
        (
            "a request ended in a failure",
            "AWS/States",
            "ExecutionsFailed",
            "StateMachine",
        ),
        (
            "a closing ended in a failure",
            "AWS/States",
            "ExecutionsFailed",
            "CloseWindow",
        ),
        (
            "closing keeps failing",
            "AWS/Lambda",
            "Errors",
            "DisableLoginFunction",
        ),
        (
            "taking policies back keeps failing",
            "AWS/Lambda",
            "Errors",
            "RevokePolicyFunction",
        ),
        (
            "taking policies back is throttled",
            "AWS/Lambda",
            "Throttles",
            "RevokePolicyFunction",
        ),
        (
            "a window left a policy behind",
            "Latchkey",
            "PoliciesLeftBehind",
            "AWS::StackName",
        ),
        (
            "closing is throttled",
            "AWS/Lambda",
            "Throttles",
            "DisableLoginFunction",
        ),
        (
            "a closing could not be started",
            "AWS/SQS",
            "ApproximateNumberOfMessagesVisible",
            "DeadLetters",
        ),
        (
            "a window is open past its end",
            "Latchkey",
            "WindowOverdue",
            "AWS::StackName",
        ),
        (
            "a role cannot be closed",
            "Latchkey",
            "RolesNotClosed",
            "AWS::StackName",
        ),
        (
            "a registered role was renamed, dropped or made anew",
            "Latchkey",
            "RolesChanged",
            "AWS::StackName",
        ),
        (
            "a role was opened without approval",
            "Latchkey",
            "GlassBroken",
            "AWS::StackName",
        ),
        (
            "nobody reviewed what was opened without approval",
            "Latchkey",
            "ReviewsOverdue",
            "AWS::StackName",
        ),
        (
            "reconcile is silent",
            "Latchkey",
            "ReconcileRounds",
            "AWS::StackName",
        ),
    ];
    for (what, namespace, metric, of) in needed {
        let holds = alarms.iter().any(|(_, alarm)| {
            let properties = &alarm["Properties"];
            let dimension = properties["Dimensions"][0]["Value"].to_string();
            properties["Namespace"] == namespace
                && properties["MetricName"] == metric
                && dimension.contains(&format!("\"{of}"))
        });
        assert!(holds, "no alarm for: {what}");
    }
    assert_eq!(
        resources_of_type(&template, "AWS::CloudWatch::Dashboard").len(),
        1
    );
    // A window is overdue in seconds, so that the alarm's metric is the lag.
    let reconcile = read("crates/reconcile/src/handler.rs");
    assert!(reconcile.contains("\"WindowOverdue\", Unit::Seconds"));
}

#[test]
fn the_dashboard_shows_every_alarm_and_every_metric() {
    let template = template();
    let body = &template["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"];
    let body = body.as_str().unwrap();
    serde_json::from_str::<Value>(body).expect("the dashboard is not JSON");
    for (name, _) in resources_of_type(&template, "AWS::CloudWatch::Alarm") {
        assert!(
            body.contains(&format!("${{{name}.Arn}}")),
            "{name} is missing"
        );
    }
    for metric in our_metrics() {
        assert!(body.contains(&format!("{metric:?}")), "{metric} is missing");
    }
}

#[test]
fn every_pace_of_reconcile_has_its_rate_and_period() {
    let template = template();
    let paces = &template["Mappings"]["ReconcileMinutes"];
    let allowed = template["Parameters"]["ReconcileMinutes"]["AllowedValues"]
        .as_array()
        .unwrap();
    assert_eq!(paces.as_object().unwrap().len(), allowed.len());
    for minutes in allowed {
        let minutes = minutes.as_u64().unwrap();
        let pace = &paces[minutes.to_string()];
        assert_eq!(pace["Seconds"].as_u64(), Some(minutes * 60));
        let unit = if minutes == 1 { "minute" } else { "minutes" };
        assert_eq!(pace["Rate"], format!("rate({minutes} {unit})"));
    }
}

#[test]
fn people_can_never_answer_the_waiting_task() {
    for (name, policy) in resources_of_type(&template(), "AWS::IAM::ManagedPolicy") {
        let mut denied = Vec::new();
        visit_objects(&policy, &mut |object| {
            if object.get("Effect") == Some(&json!("Deny"))
                && object.get("Resource") == Some(&json!("*"))
            {
                denied.extend(texts(&object["Action"]).into_iter().map(str::to_owned));
            }
        });
        for action in [
            "states:SendTaskSuccess",
            "states:SendTaskFailure",
            "states:SendTaskHeartbeat",
        ] {
            assert!(
                denied.iter().any(|denied| denied == action),
                "{name} must deny {action}"
            );
        }
    }
}

#[test]
fn the_history_is_encrypted_and_stays_out_of_the_logs() {
    let template = template();
    assert_eq!(
        template["Resources"]["StateMachine"]["Properties"]["EncryptionConfiguration"]["Type"],
        "CUSTOMER_MANAGED_KMS_KEY"
    );
    for (id, _) in STATE_MACHINES {
        let properties = &template["Resources"][id]["Properties"];
        assert_eq!(
            properties["LoggingConfiguration"]["IncludeExecutionData"],
            json!(false)
        );
        assert_eq!(properties["StateMachineType"], "STANDARD");
    }
}

#[test]
fn the_access_log_never_holds_a_link() {
    let template = template();
    let format =
        template["Resources"]["CallbackStage"]["Properties"]["AccessLogSettings"]["Format"]
            .as_str()
            .unwrap();
    let allowed = [
        "requestId",
        "requestTime",
        "identity.sourceIp",
        "routeKey",
        "status",
        "responseLatency",
        "integrationStatus",
        "error.responseType",
    ];
    for variable in format.split("$context.").skip(1) {
        let variable = variable.split('"').next().unwrap();
        assert!(
            allowed.contains(&variable),
            "can $context.{variable} hold the path or the query?"
        );
    }
    serde_json::from_str::<Value>(format).expect("the access log is not JSON");
}

#[test]
fn table_and_keys_outlive_the_stack() {
    let template = template();
    for kind in ["AWS::DynamoDB::Table", "AWS::KMS::Key"] {
        for (name, resource) in resources_of_type(&template, kind) {
            assert_eq!(resource["DeletionPolicy"], "Retain", "{name}");
            assert_eq!(resource["UpdateReplacePolicy"], "Retain", "{name}");
        }
    }
}

#[test]
fn the_stack_deploys_twice_into_one_account() {
    for (id, resource) in template()["Resources"].as_object().unwrap() {
        for (property, value) in resource["Properties"].as_object().into_iter().flatten() {
            // These name something else than the resource itself.
            let is_own_name = property.ends_with("Name")
                && !["PolicyName", "StageName", "FunctionName", "MetricName"]
                    .contains(&property.as_str());
            let is_unique = value["Fn::Sub"]
                .as_str()
                .is_some_and(|name| name.contains("${AWS::StackName}"));
            assert!(
                !is_own_name || is_unique,
                "{id}: {property} must hold the stack's name, or be left to AWS"
            );
        }
    }
}

#[test]
fn parameters_and_outputs_are_described_and_checked() {
    let template = template();
    for (name, parameter) in template["Parameters"].as_object().unwrap() {
        assert!(
            parameter["Description"].is_string(),
            "parameter {name} has no description"
        );
        let checked =
            parameter.get("AllowedPattern").is_some() || parameter.get("AllowedValues").is_some();
        assert!(checked, "parameter {name} takes anything");
    }
    for (name, output) in template["Outputs"].as_object().unwrap() {
        assert!(
            output["Description"].is_string(),
            "output {name} has no description"
        );
    }
}
