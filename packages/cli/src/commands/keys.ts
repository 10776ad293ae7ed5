/** API keys of the service: who may do what. */
import type { KeyInfo, Scope } from '@mlx-training/sdk'
import { each } from '../each.ts'
import { EXIT, Stop } from '../exit.ts'
import pc from '../screen/colours.ts'
import { time } from '../screen/format.ts'
import { asJson, note, say, table } from '../screen/print.ts'
import type { Session } from '../session.ts'

export async function list({ client, json }: Session): Promise<void> {
  const { keys } = await client.keys.list()
  if (json) return asJson(keys)
  if (keys.length === 0)
    return say('No keys but that of the configuration. Make one with: mlx-training keys create NAME --scopes train')
  const rows = keys.map(({ id, name, scopes, created_at, last_used_at, expires_at }) => [
    id,
    name,
    scopes.join(', '),
    time(created_at),
    time(last_used_at),
    expired(expires_at) ? pc.red(time(expires_at)) : time(expires_at),
  ])
  say(table(['id', 'name', 'may', 'made', 'last used', 'ends'], rows))
}

const expired = (at: string | null) => at !== null && Date.parse(at) <= Date.now()

/** stdout gets the key and nothing else, so that a script can take it. */
export async function create(
  { client, json }: Session,
  name: string,
  { scopes, expires }: { scopes: Scope[]; expires?: string },
): Promise<void> {
  const made = await client.keys.create({ name, scopes, ...(expires !== undefined && { expires_at: endOf(expires) }) })
  if (json) return asJson(made)
  note(`${pc.bold(made.name)} (${made.id}) may ${made.scopes.join(', ')}${ends(made)}. The key, shown only now:`)
  say(made.key)
}

const ends = ({ expires_at }: KeyInfo) => (expires_at === null ? '' : ` until ${time(expires_at)}`)

/** `30d`, `12h`, or a date: what the service takes, a time in UTC. */
export function endOf(text: string, now = Date.now()): string {
  const [, number, unit] = /^(\d{1,5})([dh])$/.exec(text) ?? []
  const end =
    number === undefined ? new Date(text) : new Date(now + Number(number) * (unit === 'd' ? 24 : 1) * 3_600_000)
  if (Number.isNaN(end.getTime())) throw new Stop(`--expires ${text}: write 30d, 12h, or a date such as 2027-01-31`)
  return end.toISOString()
}

export async function revoke({ client, json }: Session, given: string[]): Promise<void> {
  const { keys } = await client.keys.list()
  await each(given, async (text) => {
    const answer = await client.keys.delete(idOf(keys, text))
    if (json) asJson(answer)
    else say(`${answer.name} (${answer.id}) is revoked`)
  })
}

/** Of the key with this id, or the only one of this name. */
function idOf(keys: readonly KeyInfo[], text: string): string {
  const found = keys.filter(({ id, name }) => id === text || name === text)
  const [key] = found
  if (!key) throw new Stop(`There is no key "${text}". mlx-training keys list shows them`, EXIT.notFound)
  if (found.length > 1)
    throw new Stop(
      `${found.length} keys are named "${text}": give the id of one: ${found.map(({ id }) => id).join(', ')}`,
    )
  return key.id
}
