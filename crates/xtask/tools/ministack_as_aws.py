#!/usr/bin/env python3
"""Starts MiniStack with the few behaviours of AWS that Latchkey relies on and MiniStack 1.5.33 lacks.

Run it instead of the program `ministack`, with the same environment. Each correction names its source at AWS.
After an upgrade of MiniStack, try to delete corrections: the stack tests say which are still needed.
"""

import contextvars
import dataclasses
import hashlib
import json
import re
import threading
import time
import urllib.parse

from ministack import app
from ministack.core import iam_actions, iam_evaluator
from ministack.core.responses import new_uuid
from ministack.services import cloudtrail, iam, lambda_svc, sns, sqs, stepfunctions, sts
from ministack.services.cloudformation import provisioners

# The partition key of Latchkey's table, whose values dynamodb:LeadingKeys lists.
PARTITION_KEY = "pk"


def correct_step_functions():
    """Corrects tasks of the state machine."""
    execute_task = stepfunctions._execute_task
    apply_arguments = stepfunctions._apply_jsonata_arguments
    invoke_with_callback = stepfunctions._invoke_with_callback
    call_lambda = stepfunctions._call_lambda
    add_event = stepfunctions._add_event
    fail_execution = stepfunctions._fail_execution
    waiting = threading.local()

    # TimeoutSeconds may be a JSONata expression.
    # https://docs.aws.amazon.com/step-functions/latest/dg/state-task.html
    def execute_task_with_evaluated_timeout(state, state_input, execution, context):
        if isinstance(state.get("TimeoutSeconds"), str):
            seconds = stepfunctions._jsonata_state_field(state, "TimeoutSeconds", "number", state_input, context)
            state = {**state, "TimeoutSeconds": seconds}
        return execute_task(state, state_input, execution, context)

    # Each attempt of a callback task has a token of its own.
    # https://docs.aws.amazon.com/step-functions/latest/dg/connect-to-resource.html#connect-wait-token
    def apply_arguments_with_new_token(state, state_input, context=None):
        if ".waitForTaskToken" in state.get("Resource", ""):
            context["Task"] = {"Token": new_uuid()}
        return apply_arguments(state, state_input, context)

    # A callback task whose function fails has failed; it does not wait for a callback any more.
    def invoke_with_callback_of(resource, arguments, token, state):
        waiting.token = token
        try:
            return invoke_with_callback(resource, arguments, token, state)
        finally:
            waiting.token = None

    # A throttled function is an error of its own name.
    # https://docs.aws.amazon.com/step-functions/latest/dg/connect-lambda.html
    def call_lambda_by_its_errors_names(function, event):
        try:
            return call_lambda(function, event)
        except stepfunctions._ExecutionError as error:
            if error.error == "Lambda.Unknown" and "TooManyRequestsException" in error.cause:
                raise stepfunctions._ExecutionError("Lambda.TooManyRequestsException", error.cause) from None
            raise

    def call_lambda_and_report(function, event):
        try:
            return call_lambda_by_its_errors_names(function, event)
        except stepfunctions._ExecutionError as error:
            task = stepfunctions._task_tokens.get(getattr(waiting, "token", None))
            if task is not None:
                task["error"] = {"Error": error.error, "Cause": error.cause}
                task["event"].set()
            raise

    # An execution that was stopped makes no further call, and stays ABORTED. What it called before goes on.
    # https://docs.aws.amazon.com/step-functions/latest/apireference/API_StopExecution.html
    def add_event_while_running(execution, event_type, details=None):
        if execution["status"] == "ABORTED" and event_type != "ExecutionAborted":
            raise stepfunctions._ExecutionError("States.Stopped", "the execution was stopped")
        return add_event(execution, event_type, details)

    def fail_execution_while_running(execution, error, cause):
        if execution["status"] == "RUNNING":
            fail_execution(execution, error, cause)

    stepfunctions._add_event = add_event_while_running
    stepfunctions._fail_execution = fail_execution_while_running
    stepfunctions._execute_task = execute_task_with_evaluated_timeout
    stepfunctions._apply_jsonata_arguments = apply_arguments_with_new_token
    stepfunctions._invoke_with_callback = invoke_with_callback_of
    stepfunctions._call_lambda = call_lambda_and_report


def correct_iam():
    """Corrects what IAM knows about a request."""
    resolve_condition_key = iam_evaluator._resolve_condition_key
    enforce = iam_evaluator.enforce
    service_context = iam_actions.dynamodb_service_context
    transaction_checks = iam_actions.dynamodb_transaction_checks
    extract_resource_arn = iam_actions.extract_resource_arn
    keys_of_transaction = contextvars.ContextVar("keys_of_transaction")
    parameters = contextvars.ContextVar("parameters")
    external_id = contextvars.ContextVar("external_id", default=None)

    # aws:PrincipalArn of a role session is the ARN of the role.
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html#condition-keys-principalarn
    def resolve_principal_arn_to_the_role(key, context):
        value = resolve_condition_key(key, context)
        if key.lower() == "aws:principalarn" and isinstance(value, str):
            session = re.fullmatch(r"arn:(\S+?):sts::(\d+):assumed-role/([^/]+)/.+", value)
            if session:
                partition, account, role = session.groups()
                return f"arn:{partition}:iam::{account}:role/{role}"
        return value

    # dynamodb:LeadingKeys lists the partition keys that a request names; in a transaction, of each item.
    # https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/specifying-conditions.html
    def service_context_with_leading_keys(body):
        context = service_context(body)
        keys = leading_keys(json.loads(body or b"{}"))
        return {**context, "dynamodb:LeadingKeys": keys} if keys else context

    def transaction_checks_with_keys(iam_action, body, region, account_id):
        checks = transaction_checks(iam_action, body, region, account_id)
        if checks:
            items = json.loads(body)["TransactItems"]
            keys_of_transaction.set([leading_keys(member) for item in items for member in item.values()])
        return checks

    def enforce_each_item(access_key_id, iam_action, service, region, resource_arn="*", service_context=None):
        if service == "dynamodb" and "dynamodb:EnclosingOperation" in (service_context or {}):
            service_context = {**service_context, "dynamodb:LeadingKeys": keys_of_transaction.get().pop(0)}
        return enforce(access_key_id, iam_action, service, region, resource_arn, service_context)

    # ssm:GetParameters is checked for each parameter that it names, ssm:GetParametersByPath for its path.
    # https://docs.aws.amazon.com/service-authorization/latest/reference/list_awssystemsmanager.html
    def extract_resource_arn_of_parameters(service, method, path, headers, body, query, region, account_id):
        arn = extract_resource_arn(service, method, path, headers, body, query, region, account_id)
        if service == "ssm":
            request = json.loads(body or b"{}")
            names = request.get("Names") or ([request["Path"]] if "Path" in request else [])
            parameters.set([f"arn:aws:ssm:{region}:{account_id}:parameter/{name.lstrip('/')}" for name in names])
        return arn

    # The resource of a new schedule holds its group, which the request names in its body.
    # https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoneventbridgescheduler.html
    def extract_resource_arn_of_schedule(service, method, path, headers, body, query, region, account_id):
        arn = extract_resource_arn_of_parameters(service, method, path, headers, body, query, region, account_id)
        if service == "scheduler":
            group = json.loads(body or b"{}").get("GroupName", "default")
            return arn.replace(":schedule/default/", f":schedule/{group}/")
        # The ARN of a user or role holds its path.
        # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-arns
        if service == "iam":
            for kind, entities in (("role", iam._roles), ("user", iam._users)):
                entity = entities.get(arn.rsplit("/", 1)[-1]) if f":{kind}/" in arn else None
                if entity:
                    return entity["Arn"]
        if service == "sts":
            form = urllib.parse.parse_qs((body or b"").decode())
            external_id.set(next(iter(form.get("ExternalId", [])), None))
        return arn

    # The caller's own policies know sts:ExternalId too, not only the trust policy of the role.
    # https://docs.aws.amazon.com/service-authorization/latest/reference/list_awssecuritytokenservice.html
    def enforce_with_external_id(access_key_id, iam_action, service, region, resource_arn="*", service_context=None):
        if iam_action == "sts:AssumeRole" and external_id.get():
            service_context = {**(service_context or {}), "sts:ExternalId": external_id.get()}
        return enforce_each_item(access_key_id, iam_action, service, region, resource_arn, service_context)

    def enforce_each_parameter(access_key_id, iam_action, service, region, resource_arn="*", service_context=None):
        arns = parameters.get([]) if iam_action in ("ssm:GetParameters", "ssm:GetParametersByPath") else []
        for arn in arns or [resource_arn]:
            denied = enforce_with_external_id(access_key_id, iam_action, service, region, arn, service_context)
            if denied:
                return denied
        return None

    iam_evaluator._resolve_condition_key = resolve_principal_arn_to_the_role
    iam_evaluator.enforce = enforce_each_parameter
    iam_actions.extract_resource_arn = extract_resource_arn_of_schedule
    iam_actions.dynamodb_service_context = service_context_with_leading_keys
    iam_actions.dynamodb_transaction_checks = transaction_checks_with_keys


def correct_source_identity():
    """Lets sessions have a source identity, as STS does."""
    extract_resource_arn = iam_actions.extract_resource_arn
    enforce = iam_evaluator.enforce
    principal_keys = iam_evaluator._principal_keys
    evaluate_trust_policy = iam_evaluator.evaluate_trust_policy
    register_session = sts.register_session
    xml = sts._xml
    requested = contextvars.ContextVar("requested", default=None)

    def remember_what_is_requested(service, method, path, headers, body, query, region, account_id):
        form = urllib.parse.parse_qs((body or b"").decode()) if service == "sts" else {}
        requested.set(next(iter(form.get("SourceIdentity", [])), None))
        return extract_resource_arn(service, method, path, headers, body, query, region, account_id)

    # Whoever sets one needs sts:SetSourceIdentity too; both actions know sts:SourceIdentity.
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_monitor.html
    def enforce_setting_it(access_key_id, iam_action, service, region, resource_arn="*", service_context=None):
        if iam_action != "sts:AssumeRole" or not requested.get():
            return enforce(access_key_id, iam_action, service, region, resource_arn, service_context)
        context = {**(service_context or {}), "sts:SourceIdentity": requested.get()}
        for action in ("sts:AssumeRole", "sts:SetSourceIdentity"):
            denied = enforce(access_key_id, action, service, region, resource_arn, context)
            if denied:
                return denied
        return None

    # So does the trust policy. A session that has one keeps it: it cannot set another.
    def evaluate_trust_of_setting_it(trust_doc, caller_arn, ctx=None):
        if ctx is None or ctx.action != "sts:AssumeRole" or not requested.get():
            return evaluate_trust_policy(trust_doc, caller_arn, ctx)
        if (ctx.principal_keys or {}).get("aws:sourceidentity", requested.get()) != requested.get():
            return False
        context = {**ctx.service_context, "sts:sourceidentity": requested.get()}
        return all(
            evaluate_trust_policy(trust_doc, caller_arn, dataclasses.replace(ctx, action=action, service_context=context))
            for action in ("sts:AssumeRole", "sts:SetSourceIdentity")
        )

    def register_with_it(access_key, session):
        source = sts._sessions.get(session.get("SourceAccessKeyId")) or {}
        session["SourceIdentity"] = requested.get() or source.get("SourceIdentity")
        return register_session(access_key, session)

    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html#condition-keys-sourceidentity
    def principal_keys_with_it(credential):
        keys = principal_keys(credential)
        session = sts._sessions.get(credential.access_key_id) or {}
        return {**keys, "aws:sourceidentity": session["SourceIdentity"]} if session.get("SourceIdentity") else keys

    # https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
    def answer_with_it(status, action, content, **named):
        if action == "AssumeRoleResponse" and requested.get():
            element = f"<SourceIdentity>{requested.get()}</SourceIdentity></AssumeRoleResult>"
            content = content.replace("</AssumeRoleResult>", element)
        return xml(status, action, content, **named)

    iam_actions.extract_resource_arn = remember_what_is_requested
    iam_evaluator.enforce = enforce_setting_it
    iam_evaluator._principal_keys = sts._principal_keys = principal_keys_with_it
    iam_evaluator.evaluate_trust_policy = evaluate_trust_of_setting_it
    sts.register_session = register_with_it
    sts._xml = answer_with_it


def correct_inline_policies():
    """Limits the inline policies of a user or role, all of them together, without white space."""
    put_user_policy, put_role_policy = iam._put_user_policy, iam._put_role_policy

    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
    def within(limit, name, policies, put):
        def put_within(params):
            others = {key: text for key, text in policies(iam._p(params, name)).items()
                      if key != iam._p(params, "PolicyName")}
            texts = [*others.values(), iam._p(params, "PolicyDocument")]
            if sum(len(re.sub(r"\s", "", text)) for text in texts) > limit:
                message = f"Maximum policy size of {limit} bytes exceeded"
                return iam._error(409, "LimitExceeded", message, ns="iam")
            return put(params)
        return put_within

    def of_user(name):
        return iam._user_inline_policies.get(name) or {}

    def of_role(name):
        return (iam._roles.get(name) or {}).get("InlinePolicies") or {}

    iam._IAM_HANDLERS.update(
        PutUserPolicy=within(2_048, "UserName", of_user, put_user_policy),
        PutRolePolicy=within(10_240, "RoleName", of_role, put_role_policy),
    )


def correct_lambda():
    """Reserves the concurrency for a function that its template asks for."""
    function = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]
    create, update = function["create"], function["update"]

    # https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
    def reserve(name, properties):
        reserved = properties.get("ReservedConcurrentExecutions")
        lambda_svc._functions[name]["concurrency"] = None if reserved is None else int(reserved)

    def create_and_reserve(logical_id, properties, stack_name):
        name, attributes = create(logical_id, properties, stack_name)
        reserve(name, properties)
        return name, attributes

    def update_and_reserve(physical_id, old_properties, properties, *rest, **named):
        name, attributes = update(physical_id, old_properties, properties, *rest, **named)
        reserve(name, properties)
        return name, attributes

    function.update(create=create_and_reserve, update=update_and_reserve)


def correct_sns():
    """Makes e-mail subscriptions wait for their confirmation, and brings mail: to the queue mailbox-NAME of the address
    NAME@..., in the envelope that SNS uses for queues."""
    subscribe = sns._subscribe
    confirm_subscription = sns._confirm_subscription
    list_subscriptions_by_topic = sns._list_subscriptions_by_topic
    fanout = sns._fanout

    def deliver_mail(subscription, subject, text):
        region, account = subscription["topic_arn"].split(":")[3:5]
        name = "mailbox-" + subscription["endpoint"].split("@")[0]
        queue = sqs._queue_by_arn(f"arn:aws:sqs:{region}:{account}:{name}")
        if queue is None:
            print(f"there is no queue {name} for this mail: {subject}", flush=True)
            return
        body = json.dumps({"Type": "Notification", "Subject": subject, "Message": text})
        now = time.time()
        message = {
            "id": new_uuid(), "body": body, "md5": hashlib.md5(body.encode()).hexdigest(), "message_attributes": {},
            "md5_attrs": None, "receipt_handle": None, "sent_at": now, "visible_at": now, "receive_count": 0,
        }
        sqs._ensure_msg_fields(message)
        queue["messages"].append(message)

    def find(params, matches):
        topic, _ = sns._get_topic(sns._p(params, "TopicArn"))
        return next((it for it in (topic or {}).get("subscriptions", []) if matches(it)), None)

    # A mail with a link asks the owner of the address; until it is confirmed the subscription has no ARN to name.
    # https://docs.aws.amazon.com/sns/latest/api/API_Subscribe.html
    def subscribe_and_ask_for_confirmation(params):
        protocol, endpoint = sns._p(params, "Protocol"), sns._p(params, "Endpoint")

        def is_this(subscription):
            return (subscription["protocol"], subscription["endpoint"]) == (protocol, endpoint)

        known = find(params, is_this)
        answer = subscribe(params)
        subscription = find(params, is_this)
        if protocol not in ("email", "email-json") or subscription is None or (known and known["confirmed"]):
            return answer
        if known is None:
            subscription["confirmed"] = False
            subscription["token"] = new_uuid()
            subscription["attributes"].update(PendingConfirmation="true", ConfirmationWasAuthenticated="false")
        link = (
            f"https://sns.us-east-1.amazonaws.com/confirmation.html?TopicArn={subscription['topic_arn']}"
            f"&Token={subscription['token']}&Endpoint={endpoint}"
        )
        deliver_mail(subscription, "AWS Notification - Subscription Confirmation", f"To confirm, visit {link}")
        result = "<SubscribeResult><SubscriptionArn>pending confirmation</SubscriptionArn></SubscribeResult>"
        return sns._xml(200, "SubscribeResponse", result)

    # Only a signed confirmation that asks for it makes unsubscribing take a signature too.
    # https://docs.aws.amazon.com/sns/latest/api/API_ConfirmSubscription.html
    def confirm_with_or_without_signature(params):
        token = sns._p(params, "Token")
        subscription = find(params, lambda it: token and it.get("token") == token)
        answer = confirm_subscription(params)
        if subscription is not None:
            authenticated = sns._p(params, "AuthenticateOnUnsubscribe").lower() == "true"
            subscription["attributes"]["ConfirmationWasAuthenticated"] = "true" if authenticated else "false"
        return answer

    # https://docs.aws.amazon.com/sns/latest/api/API_ListSubscriptionsByTopic.html
    def list_without_arns_of_pending(params):
        status, headers, body = list_subscriptions_by_topic(params)
        topic, _ = sns._get_topic(sns._p(params, "TopicArn"))
        text = body.decode() if isinstance(body, bytes) else body
        for subscription in (topic or {}).get("subscriptions", []):
            if not subscription["confirmed"]:
                text = text.replace(f">{subscription['arn']}<", ">PendingConfirmation<")
        return status, headers, text.encode() if isinstance(body, bytes) else text

    def fanout_to_mail_too(topic_arn, msg_id, message, subject, message_structure="", message_attributes=None, *rest,
                           **named):
        fanout(topic_arn, msg_id, message, subject, message_structure, message_attributes, *rest, **named)
        topic = sns._topic_by_arn_any_scope(topic_arn) or {}
        for subscription in topic.get("subscriptions", []):
            is_mail = subscription["protocol"] in ("email", "email-json") and subscription["confirmed"]
            if is_mail and sns._matches_filter_policy(subscription, message_attributes or {}, message):
                deliver_mail(subscription, subject, message)

    sns._subscribe = subscribe_and_ask_for_confirmation
    sns._confirm_subscription = confirm_with_or_without_signature
    sns._list_subscriptions_by_topic = list_without_arns_of_pending
    sns._fanout = fanout_to_mail_too


def correct_cloud_trail():
    """Corrects what CloudTrail says about callers, and about the start of an execution."""
    start_execution = stepfunctions._start_execution
    record_event = cloudtrail.record_event
    started = contextvars.ContextVar("started", default=None)

    def start_execution_and_remember(data):
        status, headers, body = start_execution(data)
        started.set(json.loads(body) if status == 200 else None)
        return status, headers, body

    # An event names the caller, not its access key, and the execution that was started.
    # https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-user-identity.html
    # https://docs.aws.amazon.com/step-functions/latest/dg/procedure-cloud-trail.html
    def record_caller_and_execution(**call):
        record_event(**call)
        event = cloudtrail._get_event_queue()[-1]
        record = json.loads(event["CloudTrailEvent"])
        caller = iam_evaluator.resolve_caller_identity(call["access_key_id"]) or {}
        arn = caller.get("userArn")
        record["userIdentity"] = {
            "type": "AssumedRole" if ":assumed-role/" in (arn or "") else "IAMUser",
            "principalId": caller.get("userId"),
            "arn": arn,
            "accountId": caller.get("accountId"),
            "accessKeyId": call["access_key_id"],
        }
        if call["event_name"] == "StartExecution":
            event["EventSource"] = record["eventSource"] = "states.amazonaws.com"
            record["responseElements"] = started.get()
        event["CloudTrailEvent"] = json.dumps(record)

    stepfunctions._start_execution = start_execution_and_remember
    cloudtrail.record_event = record_caller_and_execution


def leading_keys(request):
    """The values of the partition key that a DynamoDB request names."""
    keys = []
    for item in (request.get("Key"), request.get("Item")):
        if item and PARTITION_KEY in item:
            keys.append(item[PARTITION_KEY]["S"])
    for table in (request.get("RequestItems") or {}).values():
        writes = [next(iter(write.values())) for write in table] if isinstance(table, list) else []
        reads = [{"Key": key} for key in table.get("Keys", [])] if isinstance(table, dict) else []
        for part in writes + reads:
            keys += leading_keys(part)
    names = request.get("ExpressionAttributeNames") or {}
    values = request.get("ExpressionAttributeValues") or {}
    for name, value in re.findall(r"([#\w]+)\s*=\s*(:\w+)", request.get("KeyConditionExpression") or ""):
        if names.get(name, name) == PARTITION_KEY:
            keys.append(values[value]["S"])
    return keys


if __name__ == "__main__":
    correct_step_functions()
    correct_iam()
    correct_source_identity()
    correct_inline_policies()
    correct_lambda()
    correct_sns()
    correct_cloud_trail()
    app.main()
