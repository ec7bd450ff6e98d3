/** The store's migrations in order: a static list, so that names are the same under tsx, dist and any bundle. */
import type { Migration } from '../../src/db/migrations.ts';
import * as m0001 from './0001_reference_schema.ts';
import * as m0002 from './0002_mirror.ts';
import * as m0003 from './0003_outbox.ts';
import * as m0004 from './0004_state.ts';
import * as m0005 from './0005_link.ts';
import * as m0006 from './0006_own_types.ts';
import * as m0007 from './0007_certificate.ts';
import * as m0008 from './0008_link_history.ts';
import * as m0009 from './0009_verify.ts';
import * as m0010 from './0010_row_text.ts';
import * as m0011 from './0011_acks.ts';
import * as m0012 from './0012_clock.ts';
import * as m0013 from './0013_listing.ts';
import * as m0014 from './0014_diagnosed.ts';
import * as m0015 from './0015_staging.ts';

export const storeMigrations: readonly Migration[] = [
  m0001,
  m0002,
  m0003,
  m0004,
  m0005,
  m0006,
  m0007,
  m0008,
  m0009,
  m0010,
  m0011,
  m0012,
  m0013,
  m0014,
  m0015,
];
