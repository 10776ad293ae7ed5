import { Several } from './exit.ts'

/** Does something for all of them, also after one that failed; then throws what failed. */
export async function each(names: string[], work: (name: string) => Promise<void>): Promise<void> {
  const failures: { name: string; error: unknown }[] = []
  for (const name of names)
    try {
      await work(name)
    } catch (error) {
      failures.push({ name, error })
    }
  if (failures.length > 1) throw new Several(failures)
  if (failures[0]) throw failures[0].error
}
