"""What enable-login does when it opens a window, in Python, call for call."""

import base64
import json
import os
import tempfile
from datetime import datetime, timezone

import boto3

import login_core

TABLE = os.environ["LATCHKEY_TABLE"]
DYNAMODB = boto3.client("dynamodb")
KMS = boto3.client("kms")
SCHEDULER = boto3.client("scheduler")
SSM = boto3.client("ssm")
STATE = """SELECT role_oid, current_name, name_taken, can_login, valid_until::text, sessions, starting, prepared, in_recovery,
    members, is_superuser, is_createrole, could_undo, manageable, max_window_seconds, max_connections
    FROM latchkey.state(%s)"""
SERVER = """SELECT system_identifier, current_setting('server_version_num')::int4, pg_is_in_recovery(),
    clock_timestamp() FROM pg_control_system()"""
DATABASES = """SELECT d.datname::text, has_database_privilege(d.oid, 'CONNECT'),
    coalesce((to_jsonb(d) ->> 'dathasloginevt')::boolean, false) FROM pg_catalog.pg_database d
    WHERE d.datallowconn AND d.datconnlimit <> -2 AND d.datname NOT IN ('template0', 'rdsadmin') ORDER BY 1"""


def handler(event, context):
    request_id = event["request_id"]
    row = get(f"request#{request_id}", "request")
    request = json.loads(row["document"]["S"])
    window = json.loads(row["window"]["S"])
    if not approved(request_id, request) or not eligible(request):
        return {"version": 1, "outcome": "refused"}
    ca_file = certificate_authority(request["database"]["ca"]["parameter"])
    with login_core.log_in(**login(request["database"], ca_file)) as connection:
        server = connection.execute(SERVER).fetchone()
        state = connection.execute(STATE, [request["role"]]).fetchone()
        pin = json.loads(row["server"]["S"])
        if str(server[0]) != pin["system_identifier"] or state[0] != pin["role_oid"]:
            return {"version": 1, "outcome": "refused"}
        arm(request_id, request, window)
        schedule(request_id, window["end"])
        keep_facts(request_id, request, ca_file)
        return converge(request_id, request, window, connection)


def get(pk, sk):
    key = {"pk": {"S": pk}, "sk": {"S": sk}}
    return DYNAMODB.get_item(TableName=TABLE, Key=key, ConsistentRead=True).get("Item")


def query(pk):
    return DYNAMODB.query(
        TableName=TABLE,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": pk}},
        ConsistentRead=True,
    )["Items"]


def approved(request_id, request):
    proved = set()
    for item in query(f"vote#{request_id}"):
        sealed = json.loads(item["document"]["S"])
        answer = KMS.verify_mac(
            KeyId=os.environ["LATCHKEY_VOTE_KEY_ARN"],
            MacAlgorithm="HMAC_SHA_256",
            Message=json.dumps([request_id, sealed["vote"]]).encode(),
            Mac=base64.b64decode(sealed["seal"]),
        )
        if answer["MacValid"] and sealed["vote"]["verdict"] == "approve":
            proved.add(sealed["vote"]["approver"])
    return len(proved) >= request["required_approvals"]


def eligible(request):
    """Whether the catalogue, as it is now, still has all of it."""
    prefix = os.environ["LATCHKEY_CATALOGUE_PREFIX"]
    databases = SSM.get_parameters(Names=[f"{prefix}/databases/{request['target']}"])["Parameters"]
    below = SSM.get_parameters_by_path(Path=f"{prefix}/roles/{request['target']}", Recursive=True)["Parameters"]
    policies = [json.loads(parameter["Value"]) for parameter in below]
    policy = next((policy for policy in policies if policy["role"] == request["role"]), None)
    if not databases or policy is None:
        return False
    ids = sorted({request["requester"]["id"], *policy["approvers"]})
    documents = SSM.get_parameters(Names=[f"{prefix}/people/{id}" for id in ids])["Parameters"]
    people = [json.loads(document["Value"])["id"] for document in documents]
    still = [approver for approver in request["approvers"] if approver["id"] in policy["approvers"]]
    return request["requester"]["id"] in people and len(still) >= policy["required_approvals"]


def certificate_authority(name):
    # libpq reads roots from a file only.
    pem = SSM.get_parameter(Name=name)["Parameter"]["Value"]
    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
        file.write(pem)
    return file.name


def login(database, ca_file):
    opener = database["opener"]
    return {
        **database["location"]["hosts"]["writer"],
        "dbname": database["database"],
        "user": opener["user"],
        "password": login_core.password(opener["credential"]["secret"]),
        "sslrootcert": ca_file,
    }


def windows_key(request):
    return f"windows#{request['target']}#{request['role']}"


def arm(request_id, request, window):
    armed = (f"armed#{request['target']}#{request['role']}", "armed")
    count = get(*armed)
    if any(json.loads(row["document"]["S"])["ended_at"] is None for row in query(windows_key(request))):
        raise RuntimeError("somebody else has the role")
    document = {"request_id": request_id, "window": window, "opened_at": None, "ended_at": None, "ended_by": None}
    put = {
        "TableName": TABLE,
        "Item": {
            "pk": {"S": windows_key(request)},
            "sk": {"S": request_id},
            "version": {"N": "1"},
            "kind": {"S": "window"},
            "document": {"S": json.dumps(document)},
        },
        "ConditionExpression": "attribute_not_exists(pk)",
    }
    update = {
        "TableName": TABLE,
        "Key": {"pk": {"S": f"request#{request_id}"}, "sk": {"S": "request"}},
        "UpdateExpression": "SET #status = :open, #window = :window",
        "ConditionExpression": "#status = :approved",
        "ExpressionAttributeNames": {"#status": "status", "#window": "window"},
        "ExpressionAttributeValues": {
            ":window": {"S": json.dumps(window)},
            ":open": {"S": "open"},
            ":approved": {"S": "approved"},
        },
    }
    counted = {
        "TableName": TABLE,
        "Key": {"pk": {"S": armed[0]}, "sk": {"S": armed[1]}},
        "UpdateExpression": "ADD n_armed :one",
        "ConditionExpression": "n_armed = :n_armed" if count else "attribute_not_exists(pk)",
        "ExpressionAttributeValues": {":one": {"N": "1"}, **({":n_armed": count["n_armed"]} if count else {})},
    }
    armed_line = line(request_id, "armed", window=window)
    items = [{"Put": put}, {"Update": update}, {"Update": counted}, {"Put": armed_line}]
    DYNAMODB.transact_write_items(TransactItems=items)


def line(request_id, event, **details):
    """A line of the record, written with the change that it tells of."""
    at = datetime.now(timezone.utc).isoformat()
    text = {"version": 1, "at": at, "request_id": request_id, "part": "enable-login", "event": event, **details}
    return {
        "TableName": TABLE,
        "Item": {
            "pk": {"S": f"record#{at[:10]}"},
            "sk": {"S": f"{at}#{request_id}"},
            "line": {"S": json.dumps(text)},
        },
        "ConditionExpression": "attribute_not_exists(pk)",
    }


def schedule(request_id, end):
    SCHEDULER.create_schedule(
        Name=request_id,
        GroupName=os.environ["LATCHKEY_SCHEDULE_GROUP"],
        ScheduleExpression=f"at({end.rstrip('Z')})",
        ScheduleExpressionTimezone="UTC",
        FlexibleTimeWindow={"Mode": "OFF"},
        ActionAfterCompletion="DELETE",
        Target={
            "Arn": os.environ["LATCHKEY_CLOSE_WINDOW_ARN"],
            "RoleArn": os.environ["LATCHKEY_SCHEDULE_ROLE_ARN"],
            "Input": json.dumps({"version": 1, "request_id": request_id, "action": "close"}),
            "RetryPolicy": {"MaximumRetryAttempts": 185, "MaximumEventAgeInSeconds": 86400},
            "DeadLetterConfig": {"Arn": os.environ["LATCHKEY_DEAD_LETTER_ARN"]},
        },
    )


def keep_facts(request_id, request, ca_file):
    if get(f"request#{request_id}", "facts#before"):
        return
    query(windows_key(request))
    database = request["database"]
    with open(os.environ["BENCH_FACTS_SQL"]) as file:
        cluster_sql, database_sql = json.load(file)
    facts = {"databases": {}}
    arguments = login(database, ca_file)
    with login_core.log_in(**arguments) as connection:
        connection.execute(SERVER).fetchone()
        facts["cluster"] = [row[0] for row in connection.execute(cluster_sql)]
        facts["databases"][database["database"]] = [row[0] for row in connection.execute(database_sql)]
        listed = connection.execute(DATABASES).fetchall()
    for name, may_connect, has_login_trigger in listed:
        if name == database["database"] or not may_connect or has_login_trigger:
            continue
        with login_core.log_in(**arguments | {"dbname": name}) as connection:
            facts["databases"][name] = [row[0] for row in connection.execute(database_sql)]
    DYNAMODB.update_item(
        TableName=TABLE,
        Key={"pk": {"S": f"request#{request_id}"}, "sk": {"S": "facts#before"}},
        UpdateExpression="SET document = :part, n_parts = :n_parts, taken_at = :taken_at",
        ConditionExpression="attribute_not_exists(pk)",
        ExpressionAttributeValues={
            ":part": {"S": json.dumps(facts)},
            ":n_parts": {"N": "1"},
            ":taken_at": {"S": datetime.now(timezone.utc).isoformat()},
        },
    )


def converge(request_id, request, window, connection):
    key, role, end = windows_key(request), request["role"], window["end"]
    query(key)
    connection.execute(STATE, [role]).fetchone()
    connection.execute("SELECT latchkey.open(%s, %s)", [role, datetime.fromisoformat(end)])
    state = connection.execute(STATE, [role]).fetchone()
    query(key)
    if not state[3]:
        raise RuntimeError("the role was not opened")
    item = get(key, request_id)
    document = json.loads(item["document"]["S"])
    document["opened_at"] = datetime.now(timezone.utc).isoformat()
    update = {
        "TableName": TABLE,
        "Key": {"pk": {"S": key}, "sk": {"S": request_id}},
        "UpdateExpression": "SET document = :after",
        "ConditionExpression": "document = :before",
        "ExpressionAttributeValues": {":after": {"S": json.dumps(document)}, ":before": item["document"]},
    }
    DYNAMODB.transact_write_items(TransactItems=[{"Update": update}, {"Put": line(request_id, "opened")}])
    return {"version": 1, "outcome": "opened", "end": end}
