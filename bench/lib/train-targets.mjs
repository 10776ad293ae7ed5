// What the trainer is to reach beside its peers, and what a run says of it.

/** [ours, peer, what it is, times as fast at least] */
const SPEEDS = [
  ['ours-padded', 'peft-fp32', 'padded, over PEFT padded', 1.8],
  ['ours', 'peft-packed', 'packed, over PEFT packed', 2],
  ['ours', 'peft-trainer', "packed, over PEFT with transformers' Trainer", 3],
  ['ours-qlora', 'ours', 'QLoRA, over LoRA', 0.8],
]
const MEMORY = [
  ['ours-padded', 'peft-fp32', "padded, of PEFT's padded"],
  ['ours', 'peft-packed', "packed, of PEFT's packed"],
]

/** Of those that ran: {what, target, found, met}. */
export function targetsOf(results) {
  const by = Object.fromEntries(results.map((result) => [result.name, result]))
  const ratio = (a, b, key) => Math.round((100 * by[a][key]) / by[b][key]) / 100
  const ran = ([a, b]) => by[a] && by[b]
  return [
    ...SPEEDS.filter(ran).map(([a, b, what, least]) => {
      const found = ratio(a, b, 'tokens_per_second')
      return { what: `tokens/s, ${what}`, target: `at least ${least} ×`, found, met: found >= least }
    }),
    ...MEMORY.filter(ran).map(([a, b, what]) => {
      const found = ratio(a, b, 'peak_memory_mb')
      return { what: `peak memory, ${what}`, target: 'below 1 ×', found, met: found < 1 }
    }),
  ]
}
