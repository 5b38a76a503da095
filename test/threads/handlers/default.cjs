Object.defineProperty(exports, '__esModule', { value: true });
exports.default = async (job) => ({ from: 'exports.default', data: job.data });
