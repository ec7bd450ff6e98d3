/** Saves credentials as fast as it can, until it is killed: `product` as the product does, `plain` with one write. */
import { writeFileSync } from 'node:fs';
import { formatCredential, newKid, newSecret } from '../../src/core/secret.ts';
import { credentialPath, saveCredential } from '../../src/store/credential.ts';

const [, , stateDir = '', how = 'product'] = process.argv;
console.log('writing');
for (;;) {
  const kid = newKid();
  const token = formatCredential({ kid, secret: newSecret(kid) });
  const credential = {
    token,
    kid,
    hqUrl: 'https://hq.example.com:3001',
    hqId: '00000000-0000-7000-8000-000000000001',
    storeId: 1,
    code: 'S-1',
    name: 'x'.repeat(20_000), // large enough that a plain write takes more than one step
    enrolledWith: null,
  };
  if (how === 'product') await saveCredential(stateDir, credential);
  else
    writeFileSync(
      credentialPath(stateDir),
      JSON.stringify({ ...credential, token: token.reveal(), hq_url: 'x', hq_id: 'x', store_id: 1 }),
      { mode: 0o600 },
    );
}
