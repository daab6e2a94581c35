// What enable-login does when it opens a window, in Node, call for call.
import { readFileSync } from "node:fs";
import {
  DynamoDBClient,
  GetItemCommand,
  QueryCommand,
  TransactWriteItemsCommand,
  UpdateItemCommand,
} from "@aws-sdk/client-dynamodb";
import { KMSClient, VerifyMacCommand } from "@aws-sdk/client-kms";
import { CreateScheduleCommand, SchedulerClient } from "@aws-sdk/client-scheduler";
import { GetParameterCommand, GetParametersByPathCommand, GetParametersCommand, SSMClient } from "@aws-sdk/client-ssm";
import { serve } from "./runtime.mjs";
import { logIn, password } from "./secret.mjs";

const env = process.env;
const TableName = env.LATCHKEY_TABLE;
const dynamodb = new DynamoDBClient({});
const kms = new KMSClient({});
const scheduler = new SchedulerClient({});
const ssm = new SSMClient({});

const STATE = `SELECT role_oid, current_name, name_taken, can_login, valid_until::text, sessions, starting, prepared,
  in_recovery, members, is_superuser, is_createrole, could_undo, manageable, max_window_seconds, max_connections
  FROM latchkey.state($1)`;
const SERVER = `SELECT system_identifier, current_setting('server_version_num')::int4, pg_is_in_recovery(),
  clock_timestamp() FROM pg_control_system()`;
const DATABASES = `SELECT d.datname::text AS name, has_database_privilege(d.oid, 'CONNECT') AS may_connect,
  coalesce((to_jsonb(d) ->> 'dathasloginevt')::boolean, false) AS has_login_trigger FROM pg_catalog.pg_database d
  WHERE d.datallowconn AND d.datconnlimit <> -2 AND d.datname NOT IN ('template0', 'rdsadmin') ORDER BY 1`;

serve(async ({ request_id: id }) => {
  const row = await get(`request#${id}`, "request");
  const request = JSON.parse(row.document.S);
  const window = JSON.parse(row.window.S);
  if (!(await approved(id, request)) || !(await eligible(request))) return { version: 1, outcome: "refused" };
  const found = await ssm.send(new GetParameterCommand({ Name: request.database.ca.parameter }));
  const ca = found.Parameter.Value;
  const client = await logIn(await login(request.database), ca);
  const server = (await client.query(SERVER)).rows[0];
  const state = (await client.query(STATE, [request.role])).rows[0];
  const pin = JSON.parse(row.server.S);
  if (server.system_identifier !== pin.system_identifier || state.role_oid !== pin.role_oid) {
    return { version: 1, outcome: "refused" };
  }
  await arm(id, request, window);
  await schedule(id, window.end);
  await keepFacts(id, request, ca);
  const answer = await converge(id, request, window, client);
  await client.end();
  return answer;
});

async function get(pk, sk) {
  const Key = { pk: { S: pk }, sk: { S: sk } };
  return (await dynamodb.send(new GetItemCommand({ TableName, Key, ConsistentRead: true }))).Item;
}

async function query(pk) {
  const asked = new QueryCommand({
    TableName,
    KeyConditionExpression: "pk = :pk",
    ExpressionAttributeValues: { ":pk": { S: pk } },
    ConsistentRead: true,
  });
  return (await dynamodb.send(asked)).Items;
}

async function approved(id, request) {
  const proved = new Set();
  for (const item of await query(`vote#${id}`)) {
    const { vote, seal } = JSON.parse(item.document.S);
    const asked = new VerifyMacCommand({
      KeyId: env.LATCHKEY_VOTE_KEY_ARN,
      MacAlgorithm: "HMAC_SHA_256",
      Message: Buffer.from(JSON.stringify([id, vote])),
      Mac: Buffer.from(seal, "base64"),
    });
    const { MacValid } = await kms.send(asked);
    if (MacValid && vote.verdict === "approve") proved.add(vote.approver);
  }
  return proved.size >= request.required_approvals;
}

// Whether the catalogue, as it is now, still has all of it.
async function eligible({ target, role, requester, approvers }) {
  const prefix = env.LATCHKEY_CATALOGUE_PREFIX;
  const [databases, below] = await Promise.all([
    ssm.send(new GetParametersCommand({ Names: [`${prefix}/databases/${target}`] })),
    ssm.send(new GetParametersByPathCommand({ Path: `${prefix}/roles/${target}`, Recursive: true })),
  ]);
  const policy = below.Parameters.map(({ Value }) => JSON.parse(Value)).find((policy) => policy.role === role);
  if (databases.Parameters.length === 0 || !policy) return false;
  const ids = [...new Set([requester.id, ...policy.approvers])].sort();
  const documents = await ssm.send(new GetParametersCommand({ Names: ids.map((id) => `${prefix}/people/${id}`) }));
  const people = documents.Parameters.map(({ Value }) => JSON.parse(Value).id);
  const still = approvers.filter((approver) => policy.approvers.includes(approver.id));
  return people.includes(requester.id) && still.length >= policy.required_approvals;
}

async function login({ location, database, opener }) {
  return { ...location.hosts.writer, database, user: opener.user, password: await password(opener.credential.secret) };
}

function windowsKey(request) {
  return `windows#${request.target}#${request.role}`;
}

async function arm(id, request, window) {
  const armed = [`armed#${request.target}#${request.role}`, "armed"];
  const count = await get(...armed);
  const rows = await query(windowsKey(request));
  if (rows.some((row) => JSON.parse(row.document.S).ended_at === null)) throw new Error("somebody else has the role");
  const document = { request_id: id, window, opened_at: null, ended_at: null, ended_by: null };
  const Put = {
    TableName,
    Item: {
      pk: { S: windowsKey(request) },
      sk: { S: id },
      version: { N: "1" },
      kind: { S: "window" },
      document: { S: JSON.stringify(document) },
    },
    ConditionExpression: "attribute_not_exists(pk)",
  };
  const Update = {
    TableName,
    Key: { pk: { S: `request#${id}` }, sk: { S: "request" } },
    UpdateExpression: "SET #status = :open, #window = :window",
    ConditionExpression: "#status = :approved",
    ExpressionAttributeNames: { "#status": "status", "#window": "window" },
    ExpressionAttributeValues: {
      ":window": { S: JSON.stringify(window) },
      ":open": { S: "open" },
      ":approved": { S: "approved" },
    },
  };
  const Counted = {
    TableName,
    Key: { pk: { S: armed[0] }, sk: { S: armed[1] } },
    UpdateExpression: "ADD n_armed :one",
    ConditionExpression: count ? "n_armed = :n_armed" : "attribute_not_exists(pk)",
    ExpressionAttributeValues: { ":one": { N: "1" }, ...(count && { ":n_armed": count.n_armed }) },
  };
  const items = [{ Put }, { Update }, { Update: Counted }, { Put: line(id, "armed", { window }) }];
  await dynamodb.send(new TransactWriteItemsCommand({ TransactItems: items }));
}

// A line of the record, written with the change that it tells of.
function line(id, event, details) {
  const at = new Date().toISOString();
  const text = { version: 1, at, request_id: id, part: "enable-login", event, ...details };
  return {
    TableName,
    Item: { pk: { S: `record#${at.slice(0, 10)}` }, sk: { S: `${at}#${id}` }, line: { S: JSON.stringify(text) } },
    ConditionExpression: "attribute_not_exists(pk)",
  };
}

async function schedule(id, end) {
  const asked = new CreateScheduleCommand({
    Name: id,
    GroupName: env.LATCHKEY_SCHEDULE_GROUP,
    ScheduleExpression: `at(${end.replace("Z", "")})`,
    ScheduleExpressionTimezone: "UTC",
    FlexibleTimeWindow: { Mode: "OFF" },
    ActionAfterCompletion: "DELETE",
    Target: {
      Arn: env.LATCHKEY_CLOSE_WINDOW_ARN,
      RoleArn: env.LATCHKEY_SCHEDULE_ROLE_ARN,
      Input: JSON.stringify({ version: 1, request_id: id, action: "close" }),
      RetryPolicy: { MaximumRetryAttempts: 185, MaximumEventAgeInSeconds: 86400 },
      DeadLetterConfig: { Arn: env.LATCHKEY_DEAD_LETTER_ARN },
    },
  });
  await scheduler.send(asked);
}

async function keepFacts(id, request, ca) {
  if (await get(`request#${id}`, "facts#before")) return;
  await query(windowsKey(request));
  const [clusterSql, databaseSql] = JSON.parse(readFileSync(env.BENCH_FACTS_SQL, "utf8"));
  const facts = { databases: {} };
  const own = await login(request.database);
  const client = await logIn(own, ca);
  await client.query(SERVER);
  facts.cluster = (await client.query(clusterSql)).rows.map((row) => row.fact);
  facts.databases[own.database] = (await client.query(databaseSql)).rows.map((row) => row.fact);
  const listed = (await client.query(DATABASES)).rows;
  await client.end();
  for (const { name, may_connect: mayConnect, has_login_trigger: hasLoginTrigger } of listed) {
    if (name === own.database || !mayConnect || hasLoginTrigger) continue;
    const other = await logIn({ ...own, database: name }, ca);
    facts.databases[name] = (await other.query(databaseSql)).rows.map((row) => row.fact);
    await other.end();
  }
  const asked = new UpdateItemCommand({
    TableName,
    Key: { pk: { S: `request#${id}` }, sk: { S: "facts#before" } },
    UpdateExpression: "SET document = :part, n_parts = :n_parts, taken_at = :taken_at",
    ConditionExpression: "attribute_not_exists(pk)",
    ExpressionAttributeValues: {
      ":part": { S: JSON.stringify(facts) },
      ":n_parts": { N: "1" },
      ":taken_at": { S: new Date().toISOString() },
    },
  });
  await dynamodb.send(asked);
}

async function converge(id, request, window, client) {
  const key = windowsKey(request);
  await query(key);
  await client.query(STATE, [request.role]);
  await client.query("SELECT latchkey.open($1, $2)", [request.role, window.end]);
  const state = (await client.query(STATE, [request.role])).rows[0];
  await query(key);
  if (!state.can_login) throw new Error("the role was not opened");
  const item = await get(key, id);
  const document = { ...JSON.parse(item.document.S), opened_at: new Date().toISOString() };
  const Update = {
    TableName,
    Key: { pk: { S: key }, sk: { S: id } },
    UpdateExpression: "SET document = :after",
    ConditionExpression: "document = :before",
    ExpressionAttributeValues: { ":after": { S: JSON.stringify(document) }, ":before": item.document },
  };
  const items = [{ Update }, { Put: line(id, "opened") }];
  await dynamodb.send(new TransactWriteItemsCommand({ TransactItems: items }));
  return { version: 1, outcome: "opened", end: window.end };
}
