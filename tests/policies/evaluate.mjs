// Reads a list of questions as JSON from a file, and prints the answers: the faults of each policy, and what it decides.
import { readFileSync } from 'node:fs';
import { validateIdentityPolicy, validateResourcePolicy } from '@cloud-copilot/iam-policy';
import { runSimulation } from '@cloud-copilot/iam-simulate';

const questions = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const answers = [];
for (const { policies, trust, action, principal, resource, context } of questions) {
  const faults = [
    ...policies.flatMap((policy) => validateIdentityPolicy(policy)),
    ...(trust ? validateResourcePolicy(trust) : []),
  ];
  const simulated = await runSimulation({
    identityPolicies: policies.map((policy, i) => ({ name: `policy-${i}`, policy })),
    serviceControlPolicies: [],
    resourceControlPolicies: [],
    resourcePolicy: trust ?? undefined,
    request: { action, principal, resource, contextVariables: context },
  }, {});
  answers.push({ faults, decided: simulated.overallResult ?? simulated });
}
console.log(JSON.stringify(answers));
