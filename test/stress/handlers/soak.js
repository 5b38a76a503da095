/** What the jobs of a soak do, by their names. The same on a thread and in a function. */
const turn = () => new Promise((resolve) => setImmediate(resolve));

export default async function run(job) {
  const { name, data, attemptsMade } = job;
  switch (name) {
    case 'big':
      await turn();
      return data.bytes.subarray(0, data.bytes.length >>> 2);
    case 'flaky':
      if (attemptsMade === 0) throw new Error('not yet');
      return data.n;
    case 'fails':
      throw new Error('it fails');
    default:
      if (data.n % 8 === 0) await turn();
      return data.n;
  }
}
