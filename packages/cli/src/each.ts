import { explain } from './exit.ts'
import { note } from './screen/print.ts'

/** Does something for all of them, also after one that failed; then throws the first failure. */
export async function each(names: string[], work: (name: string) => Promise<void>): Promise<void> {
  const failures: unknown[] = []
  for (const name of names)
    try {
      await work(name)
    } catch (error) {
      if (failures.push(error) > 1) note(`✗ ${explain(error, '').line}`)
    }
  if (failures.length > 0) throw failures[0]
}
