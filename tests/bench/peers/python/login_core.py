"""The login core in Python: read the secret, connect with TLS verify-full and SCRAM, one statement."""

import json
import os

import boto3
import psycopg

SECRETS = boto3.client("secretsmanager")


def password(arn):
    return json.loads(SECRETS.get_secret_value(SecretId=arn)["SecretString"])["password"]


def log_in(**arguments):
    """Connects as Latchkey does; nothing is kept between invocations."""
    return psycopg.connect(
        **arguments,
        sslmode="verify-full",
        channel_binding="require",
        options="-c search_path=pg_catalog",
        autocommit=True,
    )


def handler(event, context):
    with log_in(
        host=os.environ["BENCH_HOST"],
        port=os.environ["BENCH_PORT"],
        dbname=os.environ["BENCH_DATABASE"],
        user=os.environ["BENCH_USER"],
        password=password(os.environ["BENCH_SECRET_ARN"]),
        sslrootcert=os.environ["BENCH_CA"],
    ) as connection:
        row = connection.execute("SELECT latchkey.close(%s)", [os.environ["BENCH_ROLE"]]).fetchone()
    return {"closed": row[0]}
