// The login core in Node: read the secret, connect with TLS verify-full and SCRAM, one statement.
import { readFileSync } from "node:fs";
import { serve } from "./runtime.mjs";
import { logIn, password } from "./secret.mjs";

const env = process.env;
const ca = readFileSync(env.BENCH_CA, "utf8");

serve(async () => {
  const login = {
    host: env.BENCH_HOST,
    port: Number(env.BENCH_PORT),
    database: env.BENCH_DATABASE,
    user: env.BENCH_USER,
    password: await password(env.BENCH_SECRET_ARN),
  };
  const client = await logIn(login, ca);
  const { rows } = await client.query("SELECT latchkey.close($1) AS closed", [env.BENCH_ROLE]);
  await client.end();
  return { closed: rows[0].closed };
});
