/** For the knex CLI (`NODE_OPTIONS='--import tsx' npx knex --env hq migrate:status`); the product itself uses src/db/migrations.ts. */
import { knexConfig } from './src/db/migrations.ts';

export default {
  hq: knexConfig('hq', process.env.DATABASE_URL),
  store: knexConfig('store', process.env.DATABASE_URL),
};
