exports.settings = { backoffStrategies: { never: () => -1 } };
exports.default = async () => {
  throw new Error('no');
};
