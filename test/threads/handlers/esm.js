export default async (job) => ({ from: 'esm', data: job.data });
