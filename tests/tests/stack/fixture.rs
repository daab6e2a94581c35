//! One deployed stack for all tests of the process, and a privileged role of its own for each test.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::{OnceCell, RwLock};
use xtask::deploy::Optimisation;
use xtask::inbox::Message;
use xtask::stack::{APPROVERS, Ended, Execution, REQUESTER, Stack};

/// Whatever the state machine does next comes within this time, also on a busy machine.
pub(super) const SOON: Duration = Duration::from_secs(120);
/// Long enough for a test to look around in it on a busy machine.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
pub(super) const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
/// Taken for writing by a test that must be the only one.
static PLACE: RwLock<()> = RwLock::const_new(());

/// Runs a test on the shared stack, which ends with the process. After a failure the functions' logs are kept.
pub(super) fn on_stack(test: impl AsyncFnOnce(&'static Stack)) {
    let _among_others = RUNTIME.block_on(PLACE.read());
    run_on_stack(test);
}

/// The same for a test that changes what all the others use.
pub(super) fn alone_on_stack(test: impl AsyncFnOnce(&'static Stack)) {
    let _alone = RUNTIME.block_on(PLACE.write());
    run_on_stack(test);
}

fn run_on_stack(test: impl AsyncFnOnce(&'static Stack)) {
    static STACK: OnceCell<Stack> = OnceCell::const_new();
    let stack = RUNTIME.block_on(STACK.get_or_init(async || {
        let started = Stack::start("test", Optimisation::of_environment()).await;
        started.unwrap_or_else(|error| panic!("start the stack: {}", error.with_causes()))
    }));
    let outcome = catch_unwind(AssertUnwindSafe(|| RUNTIME.block_on(test(stack))));
    if let Err(failure) = outcome {
        RUNTIME.block_on(keep_logs(stack));
        resume_unwind(failure);
    }
}

/// Keeps the functions' logs of a stack on which something failed, and says where.
pub(super) async fn keep_logs(stack: &Stack) {
    match stack.save_function_logs().await {
        Ok(file) => println!("what the functions logged: {}", file.display()),
        Err(error) => println!("the functions' logs are lost: {}", error.with_causes()),
    }
}

/// A request that reached its approvers.
pub(super) struct Asked {
    pub(super) execution: Execution,
    pub(super) role: String,
    /// The link of the first approver.
    pub(super) link: String,
    row_version: Option<String>,
}

/// A new privileged role, registered for windows, with `change` made to its document.
pub(super) async fn new_role(stack: &Stack, change: Value) -> String {
    let role = new_role_name();
    let mut document = Stack::role_document(&role);
    merge(&mut document, change);
    stack.add_role(&document).await.unwrap();
    role
}

/// A name that no other role of this process has.
pub(super) fn new_role_name() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(1);
    format!("breakglass_{:03}", COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// Puts the fields of `change` into `document`; `null` takes a field away.
pub(super) fn merge(document: &mut Value, change: Value) {
    let fields = document.as_object_mut().unwrap();
    for (name, value) in change.as_object().cloned().unwrap_or_default() {
        if value.is_null() {
            fields.remove(&name);
        } else {
            fields.insert(name, value);
        }
    }
}

/// Asks for a new role for [`WINDOW`] from the approval on.
pub(super) async fn ask(stack: &Stack) -> Asked {
    let role = new_role(stack, json!({})).await;
    ask_for(stack, &role, json!({})).await
}

/// Asks for `role`, with `change` made to the plain request.
pub(super) async fn ask_for(stack: &Stack, role: &str, change: Value) -> Asked {
    let row_version = row_version(stack, role).await;
    let execution = file(stack, role, change).await;
    let link = link_to(stack, APPROVERS[0], role, &execution).await;
    Asked {
        execution,
        role: role.to_owned(),
        link,
        row_version,
    }
}

/// Files a request for `role`, with `change` made to the plain request.
pub(super) async fn file(stack: &Stack, role: &str, change: Value) -> Execution {
    let mut request = Stack::request_document(role, &format!("PT{}S", WINDOW.as_secs()));
    merge(&mut request, change);
    stack.file_request(&request).await.unwrap()
}

/// The link that `person` got to decide on `role`.
pub(super) async fn link_to(
    stack: &Stack,
    person: &str,
    role: &str,
    execution: &Execution,
) -> String {
    let inbox = stack.inbox(person).unwrap();
    let asks = |message: &Message| message.is_about(role) && message.decision_link().is_some();
    let message = tokio::select! {
        message = inbox.next(SOON, asks) => message.unwrap(),
        ended = stack.wait_for_end(execution, SOON) => panic!("nobody was asked: {ended:?}"),
    };
    message.decision_link().unwrap().to_owned()
}

/// The subjects of the messages that the requester got about `role` after the one that it waits for approval.
pub(super) async fn told_requester(stack: &Stack, role: &str) -> Vec<String> {
    let inbox = stack.inbox(REQUESTER).unwrap();
    let messages = inbox
        .take_all(|message| message.is_about(role))
        .await
        .unwrap();
    messages
        .into_iter()
        .map(|message| message.subject)
        .filter(|subject| !subject.contains("waits for approval"))
        .collect()
}

/// How the execution ended; it must end soon, and well.
pub(super) async fn outcome(stack: &Stack, execution: &Execution) -> Ended {
    let ended = stack.wait_for_end(execution, SOON).await.unwrap();
    assert_eq!(
        ended.status,
        "SUCCEEDED",
        "{ended:?}; states: {:?}",
        stack.states_entered(execution).await
    );
    ended
}

/// The question that matters.
pub(super) async fn can_log_in(stack: &Stack, role: &str) -> bool {
    stack.try_log_in(role).await.unwrap().is_accepted()
}

/// Waits until `role` can log in.
pub(super) async fn until_open(stack: &Stack, asked: &Asked) {
    tokio::select! {
        () = async {
            while !can_log_in(stack, &asked.role).await {
                tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            }
        } => {}
        ended = stack.wait_for_end(&asked.execution, SOON) => panic!("it was never opened: {ended:?}"),
    }
}

/// The version of the role's row: every opening and closing changes it. `None` for a role that does not exist.
pub(super) async fn row_version(stack: &Stack, role: &str) -> Option<String> {
    let superuser = &stack.postgres().accounts().superuser;
    let session = stack
        .postgres()
        .log_in(superuser, "postgres")
        .await
        .unwrap();
    let query = "SELECT xmin::text FROM pg_authid WHERE rolname::text = $1";
    session
        .query_opt(query, &[&role])
        .await
        .unwrap()
        .map(|row| row.get(0))
}

/// Whether the role was opened at any time since it was asked for.
pub(super) async fn was_ever_opened(stack: &Stack, asked: &Asked) -> bool {
    row_version(stack, &asked.role).await != asked.row_version
}

/// Until when the server takes the role's password.
pub(super) async fn valid_until(stack: &Stack, role: &str) -> DateTime<Utc> {
    let superuser = &stack.postgres().accounts().superuser;
    let session = stack
        .postgres()
        .log_in(superuser, "postgres")
        .await
        .unwrap();
    let query = "SELECT rolvaliduntil FROM pg_roles WHERE rolname::text = $1";
    session.query_one(query, &[&role]).await.unwrap().get(0)
}

/// The request's id, as the execution's own functions know it.
pub(super) async fn request_id(stack: &Stack, execution: &Execution) -> String {
    let history = stack.history(execution).await.unwrap();
    history
        .request_id()
        .unwrap_or_else(|| panic!("no request id in the history: {history:?}"))
        .to_owned()
}

/// Reads a row of the table as only an administrator can.
pub(super) async fn row(stack: &Stack, pk: &str, sk: &str) -> Value {
    let key = json!({ "pk": { "S": pk }, "sk": { "S": sk } }).to_string();
    let table = stack.output("TableName").unwrap();
    let call = ["dynamodb", "get-item", "--table-name", table, "--key", &key];
    stack.aws().aws(&call).await.unwrap()["Item"].clone()
}

/// Writes one, in the same way.
pub(super) async fn put_row(stack: &Stack, item: &Value) {
    let table = stack.output("TableName").unwrap();
    let item = item.to_string();
    let call = [
        "dynamodb",
        "put-item",
        "--table-name",
        table,
        "--item",
        &item,
    ];
    stack.aws().aws(&call).await.unwrap();
}
