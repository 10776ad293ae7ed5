/** Colours for whoever looks: a terminal that has them, or FORCE_COLOR; never against NO_COLOR (no-color.org). */
import picocolors from 'picocolors'

const { FORCE_COLOR, NO_COLOR, TERM } = process.env

/** picocolors' own choice also colours what a CI job writes into a pipe. */
export const isColoured =
  !NO_COLOR && (FORCE_COLOR ? FORCE_COLOR !== '0' : process.stdout.isTTY === true && TERM !== 'dumb')

export default { ...picocolors.createColors(isColoured), isColorSupported: isColoured }
