/** What is done to a job in one trial: a function of its seed. */
import { type Random, randomOf } from './random.ts'
import { STEPS, type Variant } from './world.ts'

export const FAULTS = [
  'kill engine',
  'kill server',
  'kill both',
  'kill server while jobs are accepted',
  'kill engine while it pauses',
  'failpoint in the engine',
  'failpoint in the database',
  'terminate server',
  'stop engine past its lease',
  'stop server past the lease',
  'orphan',
  'stale engine',
  'disk full for a checkpoint',
  'disk full for the database',
  'disk full',
  'out of memory',
  'silent hang',
] as const
export type Fault = (typeof FAULTS)[number]

/** Those of a short round: they kill and take little time. */
export const KILLS: readonly Fault[] = FAULTS.slice(0, 7)

/** So many milliseconds after the job was accepted, or the blow before was recovered from; `step`: and once the run has
 *  made it. */
export interface Moment {
  step: number | null
  milliseconds: number
}

export interface Plan {
  seed: number
  fault: Fault
  variant: Variant
  /** Of the blows, one after the other. */
  moments: Moment[]
  /** For MLX_TRAINING_FAILPOINTS, without the marker: whatever of it fires, fires once. */
  failpoint: string | null
  /** Between 0 and 1, for whatever the fault leaves open. */
  amount: number
}

const ENGINE_PLACES: readonly (readonly [name: string, passes: number])[] = [
  ['tensors.write', 20],
  ['tensors.flushed', 20],
  ['tensors.synced', 20],
  ['file.flushed', 24],
  ['checkpoint.written', 10],
  ['lease.checked', 24],
  ['checkpoint.renamed', 10],
  ['checkpoint.saved', 10],
  ['checkpoint.pruned', 6],
  ['manifest.replaced', 1],
  ['result.written', 3],
  ['result.renamed', 3],
  ['result.published', 1],
]
const FULL_PLACES = ENGINE_PLACES.filter(([name]) => /write|flushed|synced|written/.test(name))
const DATABASE_PLACES = ['store.commit', 'store.committed'] as const

export function planOf(seed: number, faults: readonly Fault[] = FAULTS): Plan {
  const random = randomOf(seed)
  const fault = random.of(faults)
  const blows = fault.startsWith('kill') ? random.of([1, 1, 2, 3]) : 1
  return {
    seed,
    fault,
    variant: random.of(['evaluated', 'accumulated', 'full'] as const),
    moments: Array.from({ length: blows }, () => momentOf(random)).sort((a, b) => (a.step ?? 0) - (b.step ?? 0)),
    failpoint: failpointOf(fault, random),
    amount: random.next(),
  }
}

/** Half of the blows while it begins, which takes most of the time; half between two steps. */
function momentOf(random: Random): Moment {
  return random.next() < 0.5
    ? { step: null, milliseconds: random.whole(0, 2000) }
    : { step: random.whole(0, STEPS - 1), milliseconds: random.whole(0, 30) }
}

function failpointOf(fault: Fault, random: Random): string | null {
  const place = (places: typeof ENGINE_PLACES) => {
    const [name, passes] = random.of(places)
    return `${name}@${random.whole(1, passes)}`
  }
  switch (fault) {
    case 'failpoint in the engine':
      return `${place(ENGINE_PLACES)}=kill`
    case 'disk full for a checkpoint':
      return `${place(FULL_PLACES)}=enospc`
    case 'failpoint in the database':
      return `${random.of(DATABASE_PLACES)}@${random.whole(4, 70)}=kill`
    case 'disk full for the database':
      return `store.commit@${random.whole(4, 70)}=enospc`
    case 'silent hang':
      return `step.begun@${random.whole(1, STEPS)}=hang`
    default:
      return null
  }
}
