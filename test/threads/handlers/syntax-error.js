export default async (job) => {
