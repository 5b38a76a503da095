/** Tells for which tick of a cron it runs. */
export default ({ cron, opts }) => ({ cron, opts });
