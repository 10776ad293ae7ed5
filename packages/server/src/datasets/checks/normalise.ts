/** Letter case and blanks aside. */
export const normalise = (text: string) => text.trim().replace(/\s+/g, ' ').toLowerCase()
