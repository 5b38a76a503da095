module.exports = async (job) => ({ from: 'module.exports', data: job.data });
