// Reads the secret and logs in, with TLS verify-full and SCRAM; nothing is kept between invocations.
import { GetSecretValueCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import pg from "pg";

const secrets = new SecretsManagerClient({});

export async function password(arn) {
  const secret = await secrets.send(new GetSecretValueCommand({ SecretId: arn }));
  return JSON.parse(secret.SecretString).password;
}

export async function logIn(login, ca) {
  const options = "-c search_path=pg_catalog";
  const client = new pg.Client({ ...login, options, ssl: { ca, rejectUnauthorized: true }, enableChannelBinding: true });
  await client.connect();
  return client;
}
