"""Words for COCO's classes (synonyms, narrower words, traps) and words that are no item of a list."""

SAME_AS = {
    "person": "human, human being",
    "bicycle": "bike, pushbike",
    "car": "automobile",
    "motorcycle": "motorbike",
    "airplane": "plane, aeroplane, aircraft",
    "train": "locomotive",
    "truck": "lorry",
    "traffic light": "stoplight, traffic signal, traffic lamp",
    "fire hydrant": "hydrant",
    "backpack": "rucksack, knapsack",
    "umbrella": "parasol",
    "handbag": "purse",
    "tie": "necktie",
    "frisbee": "flying disc, flying disk",
    "skis": "ski",
    "sports ball": "ball, sport ball",
    "baseball bat": "bat",
    "baseball glove": "baseball mitt, mitt",
    "tennis racket": "racket, racquet, tennis racquet",
    "wine glass": "wineglass",
    "donut": "doughnut",
    "couch": "sofa, settee",
    "potted plant": "plant, houseplant, pot plant",
    "dining table": "table, dining room table, dinner table",
    "tv": "television, television set, tv set, tv monitor, monitor",
    "laptop": "laptop computer",
    "mouse": "computer mouse",
    "remote": "remote control, remote controller, tv remote, television remote, tv remote control",
    "keyboard": "computer keyboard",
    "cell phone": "phone, mobile phone, smartphone, cellular phone, telephone",
    "microwave": "microwave oven",
    "oven": "stove",
    "sink": "washbasin",
    "refrigerator": "fridge",
    "scissors": "scissor",
    "teddy bear": "teddy, stuffed bear, toy bear, plush bear",
    "hair drier": "hair dryer, blow dryer, blow drier",
}
"""Other words for the same class."""

KINDS_OF = {
    "person": "man, woman, boy, girl, child, kid, baby, toddler, infant, teenager, adult, lady, gentleman, "
    "guy, pedestrian, cyclist, skier, snowboarder, skateboarder, surfer, tennis player, baseball player, "
    "soccer player, football player, basketball player",
    "bicycle": "mountain bike",
    "car": "taxi, sedan, suv",
    "motorcycle": "moped, dirt bike, motor scooter",
    "airplane": "jet, airliner, jetliner, biplane",
    "bus": "minibus, schoolbus",
    "truck": "pickup, fire engine, firetruck",
    "boat": "ship, sailboat, canoe, kayak, ferry, yacht, rowboat, speedboat, motorboat",
    "bird": "duck, goose, swan, seagull, gull, pigeon, parrot, penguin, owl, eagle, sparrow, chicken",
    "cat": "kitten, kitty",
    "dog": "puppy, pup, sheepdog, sheep dog, bulldog, bull dog, labrador, golden retriever, "
    "retriever, terrier, "
    "poodle, husky, corgi, beagle",
    "horse": "pony, foal",
    "sheep": "lamb",
    "cow": "cattle, cattles, bull, calf, ox",
    "handbag": "shoulder bag, tote bag",
    "tie": "bow tie",
    "suitcase": "luggage",
    "sports ball": "basketball, football, volleyball",
    "cup": "mug, teacup",
    "sandwich": "hamburger, burger, cheeseburger",
    "orange": "tangerine, clementine",
    "cake": "cupcake, cheesecake, carrot cake",
    "chair": "armchair, stool",
    "toilet": "urinal, toilet bowl, toilet seat",
    "cell phone": "iphone",
    "potted plant": "flowerpot",
}
"""Narrower words: each is one of the class, but the class is more."""

TRAPS = (
    "cable car, car seat, car door, car window, car park, parking lot, train car, wheelchair, "
    "wheel chair, chair lift, bus driver, truck driver, "
    "cat tree, dog leash, dog collar, dog bed, cat bed, bird seed, horse trailer, mouse pad, "
    "mousepad, mouse mat, "
    "book shelf, book case, bottle opener, bottle cap, cup holder, clock radio, bed sheet, bench "
    "press, cake stand, "
    "knife block, fork lift, oven mitt, oven glove, refrigerator magnet, fridge magnet, phone "
    "booth, telephone booth, "
    "phone box, telephone pole, telephone box, phone case, tv stand, tv show, laptop bag, laptop "
    "case, umbrella stand, "
    "coffee table, pool table, side table, end table, bedside table, table lamp, table top, power "
    "plant, plant stand, "
    "tie dye, bus stop, bus station, train station, train track, dog food, cat food, "
    "dog house, bird house, bird cage, bird feeder, prairie dog, toilet paper, table tennis, table cloth, "
    "flower bed, ski slope, ski pole, ski lift, ski resort, jet ski, orange juice, apple juice, "
    "orange color, orange colour, orange and white, orange and black, white and orange, black and orange"
)
"""Phrases that hold a class's word but mean none of the classes (or the colour)."""

PLURALS = {
    "skis": "skis",
    "scissors": "scissors",
    "people": "people",
    "broccoli": "broccoli",
    "luggage": "luggage",
    "gentleman": "gentlemen",
}
"""Plurals in small letters, whatever the case of the class; all other words follow the rules of `plurals`."""

PROSE = (
    "i we you it they he she there here this that these those which who what is are was were be been am "
    "can could may might will would has have had do does did see sees seen show shows shown appear appears "
    "contain contains include includes including visible present found depicted identified in on at from "
    "of by for to with without as if so than let me know need please sure certainly absolutely okay ok yes "
    "no not none nothing neither nor only both all every each any some other others else etc more "
    "respectively also too just following list lists answer answers image images picture pictures photo "
    "photos first second third fourth fifth last next the my your based provided given given above below "
    "among amongst various multiple many several object objects class classes category categories name "
    "names item items thing things example eg ie great thanks thank hello welcome json python text "
    "plaintext e g i"
)
"""Words of sentences about a list; an item of the list holds none."""

DESCRIBES = (
    "black white brown grey gray red green blue yellow orange pink purple golden beige tan dark light big "
    "small large little tiny huge young old adult baby furry fluffy striped spotted wild domestic cute "
    "long short tall"
)
"""Adjectives that describe the next item ("a brown, furry dog")."""
