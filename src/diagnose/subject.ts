/** What is diagnosed: one HQ address and whatever this machine has of a store. Put together by the command. */
import type { Secret } from '../core/secret.ts';

export interface Subject {
  /** The address of HQ as it was given, however wrong; undefined = nobody says where HQ is. */
  readonly hqUrl: string | undefined;
  /** Where the address came from: `--hq`, `SYNC_HQ_URL`, `credential`, a file. */
  readonly hqUrlSource: string;
  /** `diagnose --hq URL`: nothing is installed yet, so only the way to HQ is looked at. */
  readonly bare: boolean;
  readonly config: ConfigFacts;
  readonly stateDir: string;
  readonly logDir: string;
  /** The unix socket of the daemon. */
  readonly socketPath: string;
  /** undefined = PGHOST and so on. */
  readonly databaseUrl: string | undefined;
  readonly caFile: string | undefined;
  /** URL of an HTTP proxy towards HQ. */
  readonly proxy: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly credentialFile: string;
  /** What the credential file says, if it can be read; why not, if it is there and cannot. */
  readonly credential: StoreCredential | undefined;
  readonly store: { readonly id: number; readonly code: string; readonly name: string } | undefined;
  /** The HQ this store was enrolled with. */
  readonly hqId: string | undefined;
}

export interface StoreCredential {
  readonly kid: string;
  /** The whole `pst_…` text. */
  readonly token: Secret;
}

export interface ConfigFacts {
  /** The config file in use. */
  readonly file: string | undefined;
  /** Every fault of the settings, as the loader words them. */
  readonly faults: readonly string[];
  /** Settings that do not come from the default, by source. */
  readonly given: readonly {
    readonly name: string;
    readonly source: 'flag' | 'environment' | 'file' | 'credential';
  }[];
  /** Settings that environment and file both give. */
  readonly overridden: readonly string[];
  readonly warnings: readonly string[];
}
